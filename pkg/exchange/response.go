package exchange

import (
	"bufio"
	"errors"
	"net"
)

// Sink is what an engine offers below a Response. Calls come from one goroutine.
type Sink interface {
	// WriteHead sends status line and header. length is that of the body in bytes,
	// -1 if unknown. Statuses below 200 may come before the final one.
	WriteHead(status int, h *Header, length int64) error
	Write(p []byte) (int, error)
	// Flush hands everything written so far to the network.
	Flush() error
	// Abort marks the answer as broken: the client must not take it for complete.
	Abort()
	// Hijack gives the raw connection away; the engine forgets it.
	Hijack() (net.Conn, *bufio.ReadWriter, error)
}

// A HeadHook runs once, before the head of the answer goes out: header_filter, Server.
type HeadHook interface{ BeforeHead() }

// A StreamFilter changes a body on its way to the client. Filter is called for every
// piece in order and once with last set, possibly with an empty piece; what it returns
// goes on in the piece's place and is valid until the next call. An error ends the
// answer as broken.
type StreamFilter interface {
	Filter(piece []byte, last bool) ([]byte, error)
}

// Origin says who made an answer (metric label response_source).
type Origin uint8

// The makers of an answer.
const (
	FromGateway  Origin = iota // a route, plugin or the gateway itself
	FromProxy                  // an error of the proxying part
	FromUpstream               // the server behind
)

// ErrAborted is writing to an answer that was broken off.
var ErrAborted = errors.New("response was aborted")

// Response is the answer on its way to the client. It records status and
// bytes. Not safe for concurrent use.
type Response struct {
	Status int    // 0 until somebody decided
	Header Header // may be changed until the head went out
	Length int64  // of the body in bytes, -1 unknown
	Origin Origin

	Sent int64 // body bytes handed to the engine

	sink      Sink
	hook      HeadHook
	filters   []StreamFilter
	committed bool
	finished  bool
	aborted   bool
	noBody    bool
	err       error
}

func (r *Response) reset(s Sink) {
	h, filters := r.Header.fields[:0], r.filters[:0]
	*r = Response{}
	r.sink, r.Length, r.Header.fields, r.filters = s, -1, h, filters
}

// SetHook sets what runs before the head goes out.
func (r *Response) SetHook(h HeadHook) { r.hook = h }

// AddFilter appends a filter to those that the body passes through. The length of the
// body is then unknown.
func (r *Response) AddFilter(f StreamFilter) {
	r.filters = append(r.filters, f)
}

// NoBody says that the answer carries no body whatever is written: to HEAD.
func (r *Response) NoBody() { r.noBody = true }

// Committed reports whether the head went out: from then on nothing can be taken back.
func (r *Response) Committed() bool { return r.committed }

// Aborted reports whether the answer was broken off.
func (r *Response) Aborted() bool { return r.aborted }

// Err is the first error of writing: the client is gone.
func (r *Response) Err() error { return r.err }

// Commit sends the head. Write and Finish call it when needed.
func (r *Response) Commit() error {
	if r.committed {
		return r.err
	}
	if r.Status == 0 {
		r.Status = 200
	}
	if h := r.hook; h != nil {
		r.hook = nil // also when it panics: the answer to that is not asked about again
		h.BeforeHead()
	}
	if len(r.filters) > 0 {
		r.Length = -1
	}
	if bodyless(r.Status) {
		r.noBody = true
	}
	r.committed = true
	if err := r.sink.WriteHead(r.Status, &r.Header, r.Length); err != nil {
		r.err = err
	}
	return r.err
}

// Inform sends an informational answer (103); it neither commits nor counts.
func (r *Response) Inform(status int, h *Header) error {
	if r.committed {
		return nil
	}
	return r.sink.WriteHead(status, h, -1)
}

// Write sends a piece of the body. The engine may hold it back until Flush.
func (r *Response) Write(p []byte) (int, error) {
	return len(p), r.write(p, false)
}

func (r *Response) write(p []byte, last bool) error {
	if r.aborted {
		return ErrAborted
	}
	if err := r.Commit(); err != nil {
		return err
	}
	for _, f := range r.filters {
		out, err := f.Filter(p, last)
		if err != nil {
			r.Abort()
			return err
		}
		p = out
	}
	if len(p) == 0 || r.noBody {
		return nil
	}
	n, err := r.sink.Write(p)
	r.Sent += int64(n)
	if err != nil && r.err == nil {
		r.err = err
	}
	return err
}

// Flush hands everything written so far to the network.
func (r *Response) Flush() error {
	if r.aborted {
		return ErrAborted
	}
	if err := r.Commit(); err != nil {
		return err
	}
	if err := r.sink.Flush(); err != nil {
		if r.err == nil {
			r.err = err
		}
		return err
	}
	return nil
}

// Send makes a whole answer: status, body, and its type unless one is set.
func (r *Response) Send(status int, contentType string, body []byte) error {
	r.Status, r.Length = status, int64(len(body))
	if contentType != "" && !r.Header.Has("Content-Type") {
		r.Header.Set("Content-Type", contentType)
	}
	if _, err := r.Write(body); err != nil {
		return err
	}
	return r.Finish()
}

// Finish ends the answer: filters see their last piece, the head goes out if it has not.
func (r *Response) Finish() error {
	if r.finished || r.aborted {
		return r.err
	}
	var err error
	if len(r.filters) > 0 {
		err = r.write(nil, true)
	} else {
		err = r.Commit()
	}
	// Not before: a filter that fails at its last piece still breaks the answer off.
	r.finished = true
	return err
}

// Abort breaks the answer off: the client sees an error, not a short body.
func (r *Response) Abort() {
	if !r.aborted && !r.finished {
		r.aborted = true
		r.sink.Abort()
	}
}

// Hijack gives the raw connection away, for upgrades.
func (r *Response) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, rw, err := r.sink.Hijack()
	if err == nil {
		r.committed, r.finished = true, true
	}
	return c, rw, err
}

func bodyless(status int) bool {
	return status < 200 || status == 204 || status == 304
}
