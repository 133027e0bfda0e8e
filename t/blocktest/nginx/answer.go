package nginx

import (
	"bytes"
	"compress/gzip"
	"errors"
	"strconv"
	"strings"

	"github.com/gosix/gosix/t/blocktest/lua"
)

// A wire carries an answer to whoever asked.
type wire interface {
	// head sends the status and the fields. length is the body's, -1 when it is unknown;
	// bodyless is an answer that has none whatever the fields say.
	head(status int, fields []lua.Field, length int64, bodyless bool) error
	data(p []byte) error
	flush() error
	end() error
	// abort ends the connection without an end of the answer.
	abort()
	// sent counts the bytes so far, framing included.
	sent() int64
}

// An answer is the filters between a location's content and the wire. It is the Out of an
// Exchange.
type answer struct {
	r    *request
	wire wire

	typed    bool // content of Lua, which gets the location's default_type
	forced   int  // the status that an error_page asks for
	fields   []lua.Field
	ended    bool
	bodyless bool
	gzip     *gzip.Writer
	zipped   bytes.Buffer
	bodySent int64

	// held is the body for an HTTP/1.0 client, which needs its length before it.
	held bytes.Buffer
}

var errEnded = errors.New("the answer has ended")

// status is the answer's, as it goes out.
func (a *answer) status() int {
	switch {
	case a.forced != 0:
		return a.forced
	case a.r.Status == 0:
		return 200
	}
	return a.r.Status
}

func (a *answer) Write(p []byte) (int, error) {
	if a.ended {
		return 0, errEnded
	}
	if a.holds() {
		return a.held.Write(p)
	}
	if err := a.sendHead(); err != nil {
		return 0, err
	}
	part := &lua.BodyPart{Data: bytes.Clone(p)}
	err := a.filter(part)
	if err == nil && part.EOF { // a body filter has cut it here
		a.ended = true
		err = a.wire.end()
	}
	return len(p), err
}

// holds says whether the body has to wait for its end.
func (a *answer) holds() bool {
	return a.typed && !a.r.Sent && a.r.Proto == "HTTP/1.0" && firstField(a.r.OutHeader, "Content-Length") == ""
}

func (a *answer) Flush() error {
	if a.ended || a.holds() {
		return nil
	}
	if err := a.sendHead(); err != nil {
		return err
	}
	if a.gzip != nil {
		if err := errors.Join(a.gzip.Flush(), a.drain()); err != nil {
			return err
		}
	}
	return a.wire.flush()
}

func (a *answer) EOF() error { return a.last(nil) }

// last writes what is left of the body and ends it.
func (a *answer) last(p []byte) error {
	if a.ended {
		return nil
	}
	if a.holds() {
		p = append(a.held.Bytes(), p...)
		a.r.OutHeader = setField(a.r.OutHeader, "Content-Length", strconv.Itoa(len(p)))
	}
	if err := a.sendHead(); err != nil {
		return err
	}
	if err := a.filter(&lua.BodyPart{Data: p, EOF: true}); err != nil {
		return err
	}
	a.ended = true
	return a.wire.end()
}

func (a *answer) abort() {
	a.ended = true
	a.wire.abort()
}

// sendHead runs the header filters, once.
func (a *answer) sendHead() error {
	r := a.r
	if r.Sent {
		return nil
	}
	r.Sent = true
	if r.Status == 0 {
		r.Status = a.status()
	}
	s := &r.loc.settings
	if a.typed && firstField(r.OutHeader, "Content-Type") == "" {
		if t := s.defaultType.expand(r); t != "" {
			r.OutHeader = append(r.OutHeader, lua.Field{Name: "Content-Type", Value: t})
		}
	}
	own := []lua.Field{{Name: "Server", Value: software}, {Name: "Date", Value: httpDate()}}
	for _, e := range s.outHeaders {
		// What nginx adds later can be cleared and replaced, too.
		own = e.clearOwn(r, own, a.status())
		r.OutHeader = e.apply(r, r.OutHeader, a.status())
	}
	if err := r.runScript(lua.HeaderFilter, nil); err != nil {
		if !exited(err) {
			a.abort()
			return err
		}
	}
	r.OutHeader = s.withAdded(r, r.OutHeader, a.status())
	fields := r.OutHeader
	for i := len(own) - 1; i >= 0; i-- {
		if firstField(fields, own[i].Name) == "" {
			fields = append([]lua.Field{own[i]}, fields...)
		}
	}
	status := a.status()
	a.bodyless = r.Method == "HEAD" && r.parent == nil || status < 200 || status == 204 || status == 304
	fields = a.compress(fields, status)
	length := int64(-1)
	if n, err := strconv.ParseInt(firstField(fields, "Content-Length"), 10, 64); err == nil {
		length = n
	}
	a.fields = fields
	return a.wire.head(status, fields, length, a.bodyless)
}

func exited(err error) bool {
	var exit *lua.ExitError
	return errors.As(err, &exit)
}

// clearOwn takes nginx's own fields off when the edit names one of them.
func (e headerEdit) clearOwn(r *request, own []lua.Field, status int) []lua.Field {
	e.clear = true
	e.onlyIf = false
	return e.apply(r, own, status)
}

// compress begins gzip when the location and the client want it.
func (a *answer) compress(fields []lua.Field, status int) []lua.Field {
	g := a.r.loc.settings.gzip
	if !g.on || a.bodyless || a.r.Proto != "HTTP/1.1" || status != 200 && status != 403 && status != 404 ||
		firstField(fields, "Content-Encoding") != "" || !g.takes(firstField(fields, "Content-Type")) ||
		!strings.Contains(a.r.header("Accept-Encoding"), "gzip") {
		return fields
	}
	if n, err := strconv.ParseInt(firstField(fields, "Content-Length"), 10, 64); err == nil && n < g.minLength() {
		return fields
	}
	a.gzip = gzip.NewWriter(&a.zipped)
	return append(dropField(fields, "Content-Length"), lua.Field{Name: "Content-Encoding", Value: "gzip"})
}

// filter runs the body filters over one part and sends what is left of it.
func (a *answer) filter(part *lua.BodyPart) error {
	if err := a.r.runScript(lua.BodyFilter, part); err != nil && !exited(err) {
		a.abort()
		return err
	}
	if a.bodyless {
		return nil
	}
	if a.gzip == nil {
		return a.send(part.Data)
	}
	if _, err := a.gzip.Write(part.Data); err != nil {
		return err
	}
	if part.EOF {
		if err := a.gzip.Close(); err != nil {
			return err
		}
	}
	return a.drain()
}

func (a *answer) drain() error {
	p := bytes.Clone(a.zipped.Bytes())
	a.zipped.Reset()
	return a.send(p)
}

func (a *answer) send(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	a.bodySent += int64(len(p))
	return a.wire.data(p)
}
