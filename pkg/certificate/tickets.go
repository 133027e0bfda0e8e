package certificate

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
)

// Tickets lets clients resume sessions. Its keys are made by crypto/tls, live in memory and
// change every day. nil gives no tickets. It is safe for concurrent use.
type Tickets struct{ keys tls.Config }

// use makes a configuration give and take tickets that are bound to binding and to the name
// that the client asks for. crypto/tls alone would let a session of one server be resumed
// with another, past what that asks of its clients.
func (t *Tickets) use(config *tls.Config, binding []byte) {
	if t == nil {
		config.SessionTicketsDisabled = true
		return
	}
	bound := func(name string) []byte {
		sum := sha256.Sum256(append(append([]byte{}, binding...), name...))
		return sum[:]
	}
	config.WrapSession = func(s tls.ConnectionState, session *tls.SessionState) ([]byte, error) {
		session.Extra = append(session.Extra, bound(s.ServerName))
		return t.keys.EncryptTicket(s, session)
	}
	config.UnwrapSession = func(ticket []byte, s tls.ConnectionState) (*tls.SessionState, error) {
		session, err := t.keys.DecryptTicket(ticket, s)
		if err != nil || session == nil {
			return nil, err
		}
		want := bound(s.ServerName)
		for _, extra := range session.Extra {
			if subtle.ConstantTimeCompare(extra, want) == 1 {
				return session, nil
			}
		}
		return nil, nil
	}
}
