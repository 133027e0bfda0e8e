package nginx

import (
	"context"
	"errors"
	"io"

	"github.com/gosix/gosix/t/blocktest/lua"
)

// subrequest runs another location of the same server for a script. What sub.Out had gets
// the body; the status and the fields stand in sub.
func (r *request) subrequest(ctx context.Context, sub *lua.Exchange) error {
	if r.depth() >= maxSubrequests {
		return errors.New("subrequests cycle")
	}
	w := &captureWire{out: sub.Out, x: sub}
	sub.Proto, sub.Scheme, sub.ServerName, sub.TLS = r.Proto, r.Scheme, r.ServerName, r.TLS
	sub.Remote, sub.Local, sub.Connection, sub.Requests = r.Remote, r.Local, r.Connection, r.Requests
	c := &connection{host: r.runtime, id: r.conn.id, remote: r.conn.remote, local: r.conn.local, tls: r.conn.tls, h2: r.conn.h2}
	s := newRequest(ctx, c, r.config, r.server, sub, w)
	s.parent, s.internal, s.started = r, true, r.started
	if sub.Body == nil {
		sub.Body = func() ([]byte, error) { return nil, nil }
	}
	s.body = &requestBody{finished: true}
	s.finish(s.route())
	_ = s.runScript(lua.Log, nil) // a failure is in the log
	return w.err
}

// maxSubrequests bounds subrequests inside one another.
const maxSubrequests = 50

func (r *request) depth() (n int) {
	for p := r.parent; p != nil; p = p.parent {
		n++
	}
	return n
}

// A captureWire hands the answer of a subrequest to the script that asked.
type captureWire struct {
	out lua.Writer
	x   *lua.Exchange
	n   int64
	err error
}

func (w *captureWire) head(status int, fields []lua.Field, _ int64, _ bool) error {
	w.x.Status = status
	w.x.OutHeader = fields
	return nil
}

func (w *captureWire) data(p []byte) error {
	w.n += int64(len(p))
	if w.out == nil {
		return nil
	}
	_, err := w.out.Write(p)
	return err
}

func (w *captureWire) flush() error { return nil }
func (w *captureWire) end() error   { return nil }
func (w *captureWire) abort()       { w.err = io.ErrUnexpectedEOF }
func (w *captureWire) sent() int64  { return w.n }

// A discardWire is for scripts that answer nobody.
type discardWire struct{}

func (*discardWire) head(int, []lua.Field, int64, bool) error { return nil }
func (*discardWire) data([]byte) error                        { return nil }
func (*discardWire) flush() error                             { return nil }
func (*discardWire) end() error                               { return nil }
func (*discardWire) abort()                                   {}
func (*discardWire) sent() int64                              { return 0 }
