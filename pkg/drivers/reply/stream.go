package reply

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/gosix/gosix/pkg/drivers"
	"github.com/gosix/gosix/pkg/drivers/protocol"
	"github.com/gosix/gosix/pkg/drivers/sse"
	"github.com/gosix/gosix/pkg/exchange"
	"github.com/gosix/gosix/pkg/jsonedit"
	"github.com/gosix/gosix/pkg/upstream"
)

// nothingConverted is the reference's text for a stream of another kind than it should be.
const nothingConverted = "streaming response completed without producing any output; " +
	"the upstream likely returned a different stream format than the converter expects"

// errComment is why reading returns: the client is to hear that the stream is alive.
var errComment = errors.New("nothing came yet")

// firstEvents reads until a stream has something to pass on. Until then its limits end it
// with an answer of their own, and so does white space without an end.
func (r *Reply) firstEvents() error {
	small := smallBuffers.Get().(*[4 << 10]byte)
	defer smallBuffers.Put(small)
	r.head = r.space
	defer func() {
		if r.stream {
			r.space = r.head[:0]
		}
	}()
	for r.end == nil {
		n, err := r.read(small[:])
		if err == errComment {
			r.commit = true
			return nil
		}
		ready, ferr := r.feed(small[:n])
		r.head = append(r.head, ready...)
		if r.end = err; ferr != nil {
			r.end = ferr
		}
		switch {
		case r.early:
			return r.turnIntoError()
		case r.said():
			return nil // a fault that came with it ends what has begun
		case ferr != nil:
			return ferr
		case errors.Is(r.end, ErrTooLong):
			return &drivers.Failure{Status: http.StatusGatewayTimeout, Body: ErrTooLong.Error(), Err: ErrTooLong}
		case r.tooMuch():
			return tooLarge("stream", r.call.Instance.Limits.Bytes)
		case r.passed() <= announceLimit:
		case r.book.Parsed && len(r.head) > 0:
			r.commit = true
			return nil
		default:
			return r.nothing()
		}
	}
	if r.end != io.EOF {
		return r.end
	}
	rest, err := r.finish()
	r.head = append(r.head, rest...)
	switch {
	case r.early:
		return r.turnIntoError()
	case err != nil:
		return err
	case !r.said() && (r.book.Parsed || silent(r.head)):
		return r.nothing()
	}
	return nil
}

// passed is how many bytes the whole events of a stream had so far.
func (r *Reply) passed() int64 { return r.out.Length - int64(len(r.frames.rest())) }

// silent reports whether p is nothing but empty lines and comments. What is neither, and no
// event, is passed on as it stands: the framing alone says that it is whole.
func silent(p []byte) bool {
	for line := range bytes.Lines(p) {
		if line = bytes.TrimSpace(line); len(line) > 0 && line[0] != ':' {
			return false
		}
	}
	return true
}

// said reports whether there is something for the client from which there is no way back.
func (r *Reply) said() bool {
	if _, unread := r.frames.(opaque); unread {
		return len(r.head) > 0
	}
	return (r.book.Began || r.frames.torn()) && len(bytes.TrimSpace(r.head)) > 0
}

// nothing is the failure of a stream that said nothing.
func (r *Reply) nothing() error {
	f := &drivers.Failure{Status: http.StatusBadGateway, Err: ErrEmpty}
	if r.call.Answer != nil && r.out.Length > 0 {
		f.Body, f.Err = nothingConverted, errors.New(nothingConverted)
	}
	return f
}

// turnIntoError makes of a failure that is reported inside a stream the answer that it would
// have been outside of one.
func (r *Reply) turnIntoError() error {
	r.status = r.book.Fault.Status()
	body := errorBody(r.call.Target, r.fault)
	if r.call.Answer != nil {
		body = r.call.Answer.Error(r.status, body)
	}
	r.head, r.kind, r.end, r.stream = body, jsonType, io.EOF, false
	_ = r.res.Close()
	return nil
}

// errorBody is the body of an error answer that says what the event of a stream does.
func errorBody(id protocol.ID, event []byte) []byte {
	if id == protocol.AnthropicMessages || id == protocol.BedrockConverse {
		return event
	}
	inner := event
	doc, err := jsonedit.IndexTrusted(event)
	if err != nil {
		return event
	}
	// Of the protocol openai-responses the event is the error itself, or holds a response
	// that holds one.
	if raw, kind, ok := doc.Get("response"); ok && kind == jsonedit.Object {
		if doc, err = jsonedit.IndexTrusted(raw); err != nil {
			return event
		}
	}
	if raw, _, ok := doc.Get("error"); ok {
		inner = raw
	}
	return append(append([]byte(`{"error":`), inner...), '}')
}

// read reads the next piece of a stream, as long as its limits allow. While the model is
// silent before its first token, errComment comes when its client is to hear something.
func (r *Reply) read(p []byte) (int, error) {
	limits, idle := &r.call.Instance.Limits, r.call.Instance.Timeouts.Read
	if limits.Idle > 0 {
		idle = limits.Idle
	}
	left := time.Duration(0)
	if limits.Duration > 0 {
		if left = limits.Duration - time.Since(r.begun); left <= 0 {
			return 0, ErrTooLong
		}
	}
	comments := r.call.Instance.KeepAlive
	if r.book.Began || r.inMessages() || r.encoding != "" {
		comments = 0
	}
	if comments > 0 || limits.Idle > 0 || left > 0 && (idle == 0 || left < idle) {
		if err := r.await(left, idle, comments); err != nil {
			return 0, err
		}
	}
	n, err := r.res.Read(p)
	r.out.Length += int64(n)
	if limits.Idle == 0 || r.encoding != "" {
		r.waited = 0 // else with the next event
	}
	return n, err
}

// await waits for the next piece: for what is left of the stream's time, for as long as it
// may be silent, until the next comment; 0: without that limit.
func (r *Reply) await(left, idle, comments time.Duration) error {
	wait, why := left, ErrTooLong
	if idle > 0 {
		if quiet := max(idle-r.waited, 1); wait == 0 || quiet < wait {
			wait, why = quiet, errSilent
		}
	}
	if comments > 0 && (wait == 0 || comments < wait) {
		wait, why = comments, errComment
	}
	// What counts is the time spent waiting for the provider: a client may be slow.
	begin := time.Now()
	came := r.res.Await(wait)
	r.waited += time.Since(begin)
	switch {
	case came && (r.call.Instance.Limits.Idle == 0 || r.waited < idle):
		return nil
	case came, why == errSilent: // bytes may have come, but no event in all that time
		return &upstream.Error{Op: upstream.OpBody, Addr: r.res.Addr, Wrote: true, Timeout: true, Err: errSilent}
	}
	return why
}

func (r *Reply) tooMuch() bool {
	limit := r.call.Instance.Limits.Bytes
	return limit > 0 && r.out.Length > limit
}

// feed returns what can be passed on of a stream after p. One in an encoding has no events
// to be seen, so nothing of it is held back.
func (r *Reply) feed(p []byte) ([]byte, error) {
	r.converted = r.converted[:0]
	ready, err := r.frames.feed(p)
	if r.out.FirstToken.IsZero() && (r.book.Began || r.encoding != "" && len(ready) > 0) {
		r.out.FirstToken = time.Now()
	}
	if r.call.Answer == nil {
		return ready, err
	}
	if err == nil && r.frames.torn() {
		err = fmt.Errorf("an event of more than %d bytes cannot be converted", sse.MaxEvent)
	}
	return r.converted, err
}

// event looks at an event as it passes, and reports whether it does.
func (r *Reply) event(kind string, data []byte) bool {
	failed := r.book.Fault != nil
	r.book.Event(kind, data)
	r.waited = 0
	if r.book.Fault != nil && !failed {
		r.early = !r.book.Began && !r.commit
		r.fault = append([]byte(nil), data...)
	}
	if r.call.Answer != nil {
		r.converted = r.call.Answer.Event(r.converted, kind, data)
	}
	return !r.call.HideUsage || !r.book.Extra
}

// finish judges the end of a stream whose framing has ended, and returns what is still to be
// passed on.
func (r *Reply) finish() ([]byte, error) {
	if r.closed {
		return nil, nil
	}
	r.closed = true
	r.converted = r.converted[:0]
	open := len(bytes.TrimSpace(r.frames.rest())) > 0
	rest := r.frames.close()
	// Of a body that ends with its connection nobody knows whether there was more of it.
	r.open = open && r.res.Framing == upstream.UntilClose
	switch {
	case !r.complete():
		return nil, errCut
	case r.call.Answer != nil && !r.book.Parsed:
		return nil, nil // nothing of it could be converted
	case r.call.Answer != nil:
		r.converted = r.call.Answer.Close(r.converted)
		return r.converted, nil
	}
	return rest, nil
}

// complete judges whether a stream ended as its protocol says. One in which no event was of
// the protocol is judged by its framing alone.
func (r *Reply) complete() bool {
	switch {
	case r.book.Terminal:
		return true
	case r.book.Fault != nil:
		return false
	case !r.book.Parsed:
		_, whole := r.frames.(*messages)
		return !r.open && (!whole || len(r.frames.rest()) == 0)
	}
	// A body that ends with its connection may have been cut anywhere.
	return r.book.Finished && r.res.Framing != upstream.UntilClose
}

// relayStream passes a stream on, and ends one that ends before its protocol says so with
// an error event (spec/00 3). An event that is not complete never gets to the client, so
// that the error event does not end up inside it. Within an encoding it would be garbage.
func (r *Reply) relayStream(out *exchange.Response) error {
	err := r.events(out)
	if err != nil && exchange.Ending(r.ctx) {
		err = exchange.ErrEnding
	}
	if err == nil || r.book.Fault != nil || r.encoding != "" || r.ctx.Err() != nil && err != exchange.ErrEnding || out.Err() != nil {
		return err
	}
	event := errorEvent(r.call.Protocol, r.inMessages(), err)
	if r.frames.torn() && r.call.Answer == nil {
		event = append([]byte("\n\n"), event...)
	}
	_ = r.write(out, event, true)
	return err
}

// events passes on whole events, flushed at every read that completes some: what the
// provider sent by itself the client gets by itself.
func (r *Reply) events(out *exchange.Response) error {
	if err := r.write(out, r.head, true); err != nil {
		return err
	}
	if r.end == nil && r.commit && !r.said() {
		// Begin came to an end because the model is silent.
		if err := r.comment(out); err != nil {
			return err
		}
	}
	r.head = nil
	// Streams wait most of their time, thousands of them at once: only one whose pieces are
	// large gets a large buffer.
	small, large := smallBuffers.Get().(*[4 << 10]byte), (*[32 << 10]byte)(nil)
	defer func() {
		smallBuffers.Put(small)
		if large != nil {
			buffers.Put(large)
		}
	}()
	buf := small[:]
	for r.end == nil {
		if r.tooMuch() {
			return ErrTooLarge
		}
		n, err := r.read(buf)
		if err == errComment {
			if err := r.comment(out); err != nil {
				return err
			}
			continue
		}
		ready, ferr := r.feed(buf[:n])
		if r.end = err; ferr != nil {
			r.end = ferr
		}
		if err := r.write(out, ready, true); err != nil {
			return err
		}
		if n == len(small) && large == nil {
			large = buffers.Get().(*[32 << 10]byte)
			buf = large[:]
		}
	}
	if r.end != io.EOF {
		if r.book.Terminal {
			return nil // all was said before the connection broke
		}
		return r.end
	}
	rest, err := r.finish()
	switch {
	case err != nil:
		return err
	case r.commit && !r.book.Began:
		return ErrEmpty // but for comments
	}
	return r.write(out, rest, true)
}

func (r *Reply) comment(out *exchange.Response) error {
	return r.write(out, []byte(keepAlive), true)
}
