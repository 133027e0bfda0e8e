package node

import (
	"fmt"

	"github.com/gosix/gosix/pkg/certificate"
	"github.com/gosix/gosix/pkg/config"
	"github.com/gosix/gosix/pkg/gateway"
)

// handshakes is what the settings say of every certificate that clients are shown.
func handshakes(c *config.Config) certificate.Settings {
	s := &c.Apisix.SSL
	set := certificate.Settings{Versions: config.Versions(s.Protocols), Suites: config.Suites(s.Ciphers)}
	if s.Tickets {
		set.Tickets = new(certificate.Tickets)
	}
	return set
}

// openTLS opens every address of the gateway with TLS, or none.
func (n *node) openTLS() ([]door, error) {
	s := &n.c.Apisix.SSL
	if !s.Enable {
		return nil, nil
	}
	var doors []door
	for i, a := range s.Listen {
		l, err := listen(fmt.Sprintf("apisix.ssl.listen[%d]", i), a.String())
		if err != nil {
			return nil, closeAll(doors, err)
		}
		doors = append(doors, door{Listener: l, http2: a.HTTP2, tls: true})
	}
	return doors, nil
}

// serveDoor accepts connections until the engine ends.
func (n *node) serveDoor(e gateway.Engine, d door) error {
	if d.tls {
		return e.ServeTLS(d.Listener, gateway.TLS{HTTP2: d.http2, Fallback: n.c.Apisix.SSL.Fallback})
	}
	return e.Serve(d.Listener, nil)
}
