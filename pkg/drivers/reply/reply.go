// Package reply reads what providers answer and passes it on: whole answers and streams, in
// whatever protocol, spliced or converted, to their end or to where they break. It does not
// know providers, and neither chooses nor retries: it says when there is no way back.
package reply

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/gosix/gosix/pkg/drivers"
	"github.com/gosix/gosix/pkg/drivers/convert"
	"github.com/gosix/gosix/pkg/drivers/eventstream"
	"github.com/gosix/gosix/pkg/drivers/ledger"
	"github.com/gosix/gosix/pkg/drivers/protocol"
	"github.com/gosix/gosix/pkg/exchange"
	"github.com/gosix/gosix/pkg/upstream"
)

// wholeLimit is how much of an answer that is no stream is held back before anything goes
// to the client: within it, a cut answer may still fall back.
const wholeLimit = 1 << 20

// announceLimit is how much of a stream is held back that only announces an answer: whole
// events, in bytes.
const announceLimit = 1 << 20

// ErrEmpty is a stream in which nothing was said.
var ErrEmpty = errors.New("AI service sent an empty stream")

// ErrTooLong and ErrTooLarge are an answer that went beyond a configured limit, on its way or
// before it.
var (
	ErrTooLong  = errors.New("max_stream_duration_ms exceeded")
	ErrTooLarge = errors.New("max_response_bytes exceeded")
)

var (
	errCut    = errors.New("the upstream ended its answer early")
	errSilent = errors.New("the upstream fell silent")
)

var (
	buffers      = sync.Pool{New: func() any { return new([32 << 10]byte) }}
	smallBuffers = sync.Pool{New: func() any { return new([4 << 10]byte) }}
)

// Reply is an answer that was begun and goes to the client. One that was closed may begin
// another, in the memory that it has. Not safe for concurrent use.
type Reply struct {
	answer

	// What stays in memory for the next answer.
	book      ledger.Ledger
	space     []byte     // memory of head
	sent      serverSent // frames, for server-sent events
	converted []byte     // what the conversion made of the last piece of a stream
}

// answer is what is known of one answer alone.
type answer struct {
	ctx      context.Context
	res      *upstream.Response
	call     *drivers.Call
	begun    time.Time
	came     time.Time // when the last came of what was read before anything went to the client
	status   int
	kind     string // the Content-Type for the client
	encoding string // not empty: what the body says cannot be read
	stream   bool

	head []byte // for the client: what there was before the point from which there is no way back
	end  error  // why nothing follows head: io.EOF, or a fault; nil: more follows
	out  drivers.Outcome

	// Of a stream.
	frames framing
	fault  []byte        // the event with which the provider reports that it failed
	early  bool          // it did so before it said anything
	commit bool          // there is no way back although nothing was said
	closed bool          // its end was judged
	open   bool          // it ended in what may be the middle of an event
	waited time.Duration // for the provider since the last piece, or event with Limits.Idle; if somebody looks at the clock
}

// Begin reads up to the point from which there is no way back, and writes nothing. Of an
// answer that is no stream that is its first MiB, or all of it where it is converted. Of a
// stream it is the first event that says something: those that only announce an answer are
// held back, up to 1 MiB. With Instance.KeepAlive it is the first comment at
// the latest.
//
// After an error another instance may be asked; the response is closed. It is a
// *drivers.Broken around its cause, which is a *drivers.Failure where the client is to get
// something else than what a broken connection gives. A provider that reports inside a
// stream, before it said anything, that it failed gives no error but a Reply with the
// status that the failure would have had (ledger.Fault.Status): it is judged by that, as if
// the provider had answered so at once.
func Begin(ctx context.Context, res *upstream.Response, c *drivers.Call) (*Reply, error) {
	r := new(Reply)
	if err := r.Begin(ctx, res, c, time.Now()); err != nil {
		return nil, err
	}
	return r, nil
}

// Begin is the function Begin for a Reply that was closed: what it gave out is void then. The
// head came at that time.
func (r *Reply) Begin(ctx context.Context, res *upstream.Response, c *drivers.Call, at time.Time) error {
	r.reset()
	r.ctx, r.res, r.call, r.begun, r.came, r.status = ctx, res, c, at, at, res.Status
	r.book.Reset(c.Target, c.Instance.Text)
	r.kind = res.Header.Get("Content-Type")
	r.encoding = res.Header.Get("Content-Encoding")
	if s, ok := c.Answer.(convert.Stamped); ok {
		// By the clock of the day: the time of the head tells only how long something took.
		s.Stamp(requestID(&res.Header), time.Now().Unix())
	}
	// An error is no stream, whatever it says it is: it must be read to be judged.
	if res.Status < 300 {
		r.frames = r.framed(r.kind)
	}
	r.stream = r.frames != nil
	if r.encoding == "identity" {
		r.encoding = ""
	}
	var err error
	switch {
	case r.call.Answer != nil && r.encoding != "" && res.Status < 300:
		err = &drivers.Failure{Status: http.StatusBadGateway, Err: fmt.Errorf("an answer in the encoding %s cannot be converted", r.encoding)}
	case !r.stream:
		err = r.whole()
	default:
		if r.encoding != "" {
			r.frames = opaque{}
		}
		err = r.firstEvents()
		r.came = time.Now()
	}
	if err != nil {
		_ = res.Close()
		r.note()
		return &drivers.Broken{Outcome: r.out, Err: err}
	}
	return nil
}

// reset makes r what a new one is, with the memory that it has.
func (r *Reply) reset() {
	r.answer = answer{}
	r.space, r.converted = r.space[:0], r.converted[:0]
}

// requestID is how a provider names an answer; empty: it does not.
func requestID(h *exchange.Header) string {
	for _, name := range []string{"X-Request-Id", "Request-Id", "X-Amzn-RequestId"} {
		if id := h.Get(name); id != "" {
			return id
		}
	}
	return ""
}

// Status is that of the provider's answer, or of the failure that it reported in a stream.
func (r *Reply) Status() int { return r.status }

// ContentType is that of the body.
func (r *Reply) ContentType() string { return r.kind }

// Encoding is the Content-Encoding of the body; empty: none.
func (r *Reply) Encoding() string { return r.encoding }

// Failed is the status that the provider's answer would have had, were it not a body with
// status 200 that reports a failure; 0: it is none, or has that status already.
func (r *Reply) Failed() int {
	if r.status >= 300 || !r.book.Failed {
		return 0
	}
	return r.book.Fault.Status()
}

// Fault is a failure that the provider reported inside its answer; nil: none so far.
func (r *Reply) Fault() *ledger.Fault { return r.book.Fault }

// Came is when Begin had read what it read.
func (r *Reply) Came() time.Time { return r.came }

// Ended reports whether nothing more comes of the provider's answer.
func (r *Reply) Ended() bool { return r.end != nil }

// Peek is what was read of the body so far, as the client gets it.
func (r *Reply) Peek() []byte { return r.head }

// Close ends the provider's answer. What was read of it is void.
func (r *Reply) Close() {
	_ = r.res.Close()
	if r.head = nil; cap(r.space) > keptSpace {
		r.space = nil
	}
	if cap(r.converted) > keptSpace {
		r.converted = nil
	}
}

// keptSpace is up to how many bytes the memory of an answer is kept for the next one.
const keptSpace = 64 << 10

// note brings what the ledger holds into the outcome.
func (r *Reply) note() {
	r.out.Usage, r.out.ToolCalls, r.out.Text, r.out.Stream = r.book.Usage, r.book.ToolCalls, r.book.Text, r.stream
	r.out.RawUsage = r.book.Raw
}

// inMessages reports whether the client's stream is an AWS event stream.
func (r *Reply) inMessages() bool {
	if r.call.Answer != nil {
		return r.call.Protocol == protocol.BedrockConverse
	}
	_, is := r.frames.(*messages)
	return is
}

// Relay writes the answer to the client; a status that is set already stays. From its first
// byte on there is no way back. An error means that it was broken off, by either side, and
// that the client was made to see that.
func (r *Reply) Relay(out *exchange.Response) (drivers.Outcome, error) {
	if out.Status == 0 {
		out.Status = r.status
	}
	out.Origin = exchange.FromUpstream
	if r.stream && r.call.Answer != nil {
		r.kind = sseType
		if r.inMessages() {
			r.kind = eventstream.ContentType
		}
	}
	if r.kind != "" {
		out.Header.Set("Content-Type", r.kind)
	}
	// Nobody asked for an encoding; a provider that chose one all the same must be understood.
	if r.encoding != "" {
		out.Header.Set("Content-Encoding", r.encoding)
	}
	if r.status >= 400 {
		for _, f := range drivers.ErrorHeader(&r.res.Header) {
			out.Header.Add(f.Name, f.Value)
		}
	}
	var err error
	if r.stream {
		err = r.relayStream(out)
	} else {
		err = r.relayWhole(out)
	}
	if err != nil {
		out.Abort()
	}
	r.note()
	r.out.Complete = err == nil
	return r.out, err
}

// Body is the whole answer, for those who want it instead of passing it on. One of more than
// limit bytes, or that ends before its protocol says so, is an error.
func (r *Reply) Body(limit int64) ([]byte, error) {
	body := slices.Clone(r.head) // what it lies in is not the caller's
	buf := buffers.Get().(*[32 << 10]byte)
	defer buffers.Put(buf)
	for r.end == nil && int64(len(body)) <= limit {
		if !r.stream {
			if len(body) == cap(body) {
				body = slices.Grow(body, max(len(body), 4<<10))
			}
			n, err := r.res.Read(body[len(body):cap(body)])
			body, r.end = body[:len(body)+n], err
			continue
		}
		n, err := r.res.Read(buf[:])
		r.end = err
		ready, ferr := r.feed(buf[:n])
		if body = append(body, ready...); ferr != nil {
			return nil, ferr
		}
	}
	if r.end == io.EOF && r.stream && !r.early {
		rest, err := r.finish()
		if err != nil {
			return nil, err
		}
		body = append(body, rest...)
	}
	switch {
	case int64(len(body)) > limit:
		return nil, fmt.Errorf("AI answer is larger than %d bytes", limit)
	case r.end != io.EOF:
		return nil, r.end
	}
	return body, nil
}

func (r *Reply) write(out *exchange.Response, p []byte, flush bool) error {
	if len(p) == 0 {
		return nil
	}
	if _, err := out.Write(p); err != nil {
		return err
	}
	if flush {
		return out.Flush()
	}
	return nil
}

// tooLarge is an answer that is refused for its size before anything of it went on. what is
// said of it in the log, in the reference's words.
func tooLarge(what string, limit int64) error {
	return &drivers.Failure{Status: http.StatusBadGateway, Body: ErrTooLarge.Error(), Err: &largeError{what, limit}}
}

type largeError struct {
	what  string
	limit int64
}

func (e *largeError) Error() string {
	return fmt.Sprintf("aborting AI response: %s exceeds max_response_bytes %d", e.what, e.limit)
}

// Is says that it is an [ErrTooLarge].
func (e *largeError) Is(target error) bool { return target == ErrTooLarge }
