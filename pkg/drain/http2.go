package drain

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// The keys of http.Server.TLSNextProto. The second is how net/http takes over connections
// with HTTP/2 that are no *tls.Conn; it has no name there. Without it there is no first
// GOAWAY, and the last one comes instead.
const (
	overTLS = "h2"
	plain   = "unencrypted_http2"
)

const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

type next = func(*http.Server, *tls.Conn, http.Handler)

// overHTTP2 puts frames between net/http's HTTP/2 and its connections.
func (d *Server) overHTTP2() {
	// net/http sets up its HTTP/2 when it serves something.
	_ = d.http.Serve(none{})
	secure, open := d.http.TLSNextProto[overTLS], d.http.TLSNextProto[plain]
	if secure == nil || open == nil {
		return
	}
	d.http.TLSNextProto[plain] = func(s *http.Server, t *tls.Conn, h http.Handler) {
		nc, ok := t.NetConn().(interface{ UnencryptedNetConn() net.Conn })
		if !ok {
			open(s, t, h)
			return
		}
		d.frame(nc.UnencryptedNetConn(), s, h, open)
	}
	d.http.TLSNextProto[overTLS] = func(s *http.Server, t *tls.Conn, h http.Handler) {
		// Where net/http is handed a connection this way, the preface has been read.
		if wait := s.ReadHeaderTimeout; wait > 0 {
			_ = t.SetReadDeadline(time.Now().Add(wait))
		}
		var first [len(preface)]byte
		if _, err := io.ReadFull(t, first[:]); err != nil || string(first[:]) != preface {
			return // net/http closes it
		}
		_ = t.SetReadDeadline(time.Time{})
		d.frame(t, s, h, open)
	}
}

// none is a listener that nobody comes to.
type none struct{}

func (none) Accept() (net.Conn, error) { return nil, net.ErrClosed }
func (none) Close() error              { return nil }
func (none) Addr() net.Addr            { return &net.TCPAddr{} }

// frame serves a connection with HTTP/2.
func (d *Server) frame(nc net.Conn, s *http.Server, h http.Handler, serve next) {
	f := &frames{Conn: nc}
	d.mu.Lock()
	d.h2[f] = true
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.h2, f)
		d.tell()
	}()
	if c := beneath(nc); c != nil {
		c.leave()
		d.gone(c)
	}
	var carried net.Conn = f
	if t, ok := nc.(*tls.Conn); ok {
		carried = &secureFrames{f, t}
	}
	serve(s, tls.Client(carrier{carried, carried}, nil), marked{h, f})
}

// carrier is the form in which net/http takes over a connection.
type carrier struct {
	net.Conn
	carried net.Conn
}

func (c carrier) UnencryptedNetConn() net.Conn { return c.carried }

// marked is a handler whose requests know their connection.
type marked struct {
	http.Handler
	f *frames
}

type framesKey struct{}

// BaseContext is how net/http's HTTP/2 asks for the context of a connection.
func (m marked) BaseContext() context.Context {
	ctx := context.Background()
	if b, ok := m.Handler.(interface{ BaseContext() context.Context }); ok {
		ctx = b.BaseContext()
	}
	return context.WithValue(ctx, framesKey{}, m.f)
}

type secureFrames struct {
	*frames
	secure *tls.Conn
}

// ConnectionState is asked for by net/http.
func (f *secureFrames) ConnectionState() tls.ConnectionState { return f.secure.ConnectionState() }

// goAway says that the connection will end, and refuses no stream.
var goAway = []byte{0, 0, 8, 7, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0}

// frames is a connection with HTTP/2 that can be told to go, between two frames of net/http,
// which itself has only a GOAWAY that refuses what it has not seen.
type frames struct {
	net.Conn
	due     atomic.Bool
	advised atomic.Int64 // when the GOAWAY went out, in ns since 1970; 0: it did not

	mu    sync.Mutex // of writing
	begun bool       // the first frame, which has to be net/http's, went out
	head  [9]byte    // of the frame that is being written
	got   int        // bytes in head; 0 between frames and while there is something left
	left  int        // bytes of the frame's payload to come
}

// advise makes the GOAWAY go out, once: now, or behind the frame that is being written.
func (f *frames) advise() {
	if f.advised.Load() == 0 {
		f.due.Store(true)
		f.settle()
	}
}

// settle says what is due, unless somebody writes, who will.
func (f *frames) settle() {
	for f.due.Load() && f.mu.TryLock() {
		said := f.between()
		if said {
			_ = f.say()
		}
		f.mu.Unlock()
		if !said {
			return
		}
	}
}

func (f *frames) between() bool { return f.begun && f.got == 0 && f.left == 0 }

func (f *frames) say() error {
	f.due.Store(false)
	if !f.advised.CompareAndSwap(0, time.Now().UnixNano()) {
		return nil
	}
	_, err := f.Conn.Write(goAway)
	return err
}

// Write implements net.Conn.
func (f *frames) Write(p []byte) (int, error) {
	f.mu.Lock()
	n, err := f.write(p)
	f.mu.Unlock()
	f.settle()
	return n, err
}

func (f *frames) write(p []byte) (n int, err error) {
	for len(p) > 0 {
		size := len(p)
		if f.due.Load() {
			if f.between() {
				if err := f.say(); err != nil {
					return n, err
				}
				continue
			}
			size = f.rest(p)
		}
		m, err := f.Conn.Write(p[:size])
		n += m
		f.advance(p[:m])
		if p = p[m:]; err != nil {
			return n, err
		}
	}
	return n, nil
}

// rest is how many bytes of p belong to the frame that is being written.
func (f *frames) rest(p []byte) int {
	if f.left > 0 {
		return min(f.left, len(p))
	}
	head := f.head
	need := len(head) - f.got
	if copy(head[f.got:], p) < need {
		return len(p)
	}
	return min(need+payload(head), len(p))
}

// advance follows what was written.
func (f *frames) advance(p []byte) {
	for len(p) > 0 {
		if f.left > 0 {
			n := min(f.left, len(p))
			f.left -= n
			p = p[n:]
			continue
		}
		n := copy(f.head[f.got:], p)
		f.got += n
		p = p[n:]
		if f.got == len(f.head) {
			f.left, f.got, f.begun = payload(f.head), 0, true
		}
	}
}

func payload(head [9]byte) int { return int(head[0])<<16 | int(head[1])<<8 | int(head[2]) }
