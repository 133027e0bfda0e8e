// Package socket reads and writes connections of the system with less ado than package net,
// and looks at them without taking anything from them: whether bytes wait, whether the other
// side has left. It knows no protocol.
package socket

import (
	"errors"
	"io"
	"syscall"
)

// MaxParts is how many parts SendParts takes.
const MaxParts = 16

// State is what can be seen of a connection without reading from it.
type State uint8

// The states of a connection.
const (
	Quiet   State = iota // nothing came, or nothing is known
	Pending              // bytes can be read
	Gone                 // the other side has closed it, or it broke
)

// Probe looks at a connection's socket. The zero value knows nothing. It is used by one
// goroutine at a time.
type Probe struct {
	raw     syscall.RawConn      // nil: cannot be looked at
	control func(socket uintptr) // takes a look, bound once
	seen    State
	one     [1]byte
}

// Init makes the probe one of the socket of c, if it has one.
func (p *Probe) Init(c any) {
	if raw := Raw(c); raw != nil {
		p.raw, p.control = raw, func(socket uintptr) { p.seen = Glance(socket, &p.one) }
	}
}

// Known reports whether there is a socket to look at.
func (p *Probe) Known() bool { return p.raw != nil }

// Look reports what waits on the connection. It does not block, not even where another
// goroutine reads from it.
func (p *Probe) Look() State {
	if p.raw == nil {
		return Quiet
	}
	p.seen = Gone
	if err := p.raw.Control(p.control); err != nil {
		return Gone
	}
	return p.seen
}

// Raw returns the socket of c, nil if it has none.
func Raw(c any) syscall.RawConn {
	if sc, ok := c.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			return raw
		}
	}
	return nil
}

// A Reader reads from a socket into memory that is taken when bytes are there, so that a
// connection on which nothing happens holds none. It is used by one goroutine at a time.
type Reader struct {
	raw  syscall.RawConn
	take func() []byte
	drop func()
	each func(socket uintptr, n int) bool // for Each; nil: reading is over with the first bytes
	step func(socket uintptr) bool        // bound once, as rush is
	rush func(socket uintptr) bool
	into []byte // for rush
	n    int
	err  error
}

// ErrNoSocket is reading from what has no socket to look at.
var ErrNoSocket = errors.New("connection has no socket that can be read this way")

// NewReader returns a reader of raw. take returns memory to read into, drop is told that
// nothing was read into it.
func NewReader(raw syscall.RawConn, take func() []byte, drop func()) *Reader {
	r := &Reader{raw: raw, take: take, drop: drop}
	r.step, r.rush = r.attempt, r.fill
	return r
}

// Read waits for bytes, as long as the connection's deadline allows, and returns how many it
// read into what take returned last. The end of the connection is io.EOF.
func (r *Reader) Read() (int, error) {
	r.n, r.err = 0, nil
	if err := r.raw.Read(r.step); err != nil {
		return 0, err
	}
	if r.n == 0 && r.err == nil {
		r.err = io.EOF
	}
	return r.n, r.err
}

// Each is Read again and again: it calls serve with how many bytes it read, until that returns
// false. What comes while serve is at work wakes up who waits next, so that it need not be
// looked for first: most often nothing has come, and the look is a call of the system. Only an
// end that came together with the last bytes is not noticed then: whoever hears of it by other
// ways calls Wake. Until Each returns the connection is in use for reading: serve reads from it
// in no other way, and who closes it waits for serve, to which socket is good.
func (r *Reader) Each(serve func(socket uintptr, n int) bool) (int, error) {
	r.each = serve
	n, err := r.Read()
	r.each = nil
	return n, err
}

// Wake makes who waits in Each look for the end of a connection that has come. It may be called
// by anybody.
func Wake(c any) {
	if half, ok := c.(interface{ CloseRead() error }); ok {
		_ = half.CloseRead() // nothing comes any more, and whoever waits is told
	}
}

// Fill reads what is there already into p until p is full, and returns how many bytes that was.
// It does not wait. After an error who reads next fails too, if only by an end.
func (r *Reader) Fill(p []byte) (n int) {
	r.into, r.n = p, 0
	if r.raw.Read(r.rush) != nil {
		r.n = 0
	}
	r.into = nil
	return r.n
}

// A Writer writes to a socket. It is used by one goroutine at a time, and while somebody else
// writes to the connection, it waits.
type Writer struct {
	raw  syscall.RawConn
	step func(socket uintptr) bool // bound once
	held uintptr                   // the socket, if whoever writes holds it
	hold bool
	rest []byte
	n    int
	err  error
}

// NewWriter returns a writer of raw.
func NewWriter(raw syscall.RawConn) *Writer {
	w := &Writer{raw: raw}
	w.step = w.attempt
	return w
}

// Hold tells that the caller has the socket until Release, as serve of Reader.Each: what it
// takes at once is then written with less ado.
func (w *Writer) Hold(socket uintptr) { w.held, w.hold = socket, true }

// Release ends Hold.
func (w *Writer) Release() { w.hold = false }

// Write implements io.Writer, within the connection's deadline.
func (w *Writer) Write(p []byte) (int, error) {
	w.rest, w.n, w.err = p, 0, nil
	var err error
	if !w.hold || !w.attempt(w.held) {
		err = w.raw.Write(w.step)
	}
	if w.rest = nil; err == nil {
		err = w.err
	}
	return w.n, err
}
