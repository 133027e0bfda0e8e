// Package reply reads what providers answer and passes it on: whole answers and streams, in
// whatever protocol, spliced or converted, to their end or to where they break. It does not
// know providers, and neither chooses nor retries: it says when there is no way back.
package reply

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gosix/gosix/pkg/drivers"
	"github.com/gosix/gosix/pkg/drivers/protocol"
	"github.com/gosix/gosix/pkg/drivers/sse"
	"github.com/gosix/gosix/pkg/exchange"
	"github.com/gosix/gosix/pkg/jsonedit"
	"github.com/gosix/gosix/pkg/upstream"
)

// wholeLimit is how much of an answer that is no stream is held back before anything goes
// to the client: within it, a cut answer may still fall back.
const wholeLimit = 1 << 20

var (
	errEmptyStream = errors.New("AI service sent an empty stream")
	errTooLong     = errors.New("max_stream_duration_ms exceeded")
	errTooLarge    = errors.New("max_response_bytes exceeded")
	errCut         = errors.New("the upstream ended its answer early")
)

var buffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// Begin reads up to the point from which there is no way back and writes nothing: a whole
// answer, or the first events of a stream. After an error another instance may be asked;
// the response is closed by it, or by the Reply.
func Begin(ctx context.Context, res *upstream.Response, c *drivers.Call) (*Reply, error) {
	r := &Reply{ctx: ctx, res: res, call: c, begun: time.Now()}
	r.kind = res.Header.Get("Content-Type")
	// An error is no stream, whatever it says it is: it must be read to be judged.
	r.stream = res.Status < 300 && strings.HasPrefix(strings.ToLower(r.kind), "text/event-stream")
	r.encoding = res.Header.Get("Content-Encoding")
	var err error
	if r.stream {
		err = r.firstEvents()
	} else {
		err = r.whole()
	}
	if err != nil {
		_ = res.Close()
		return nil, err
	}
	return r, nil
}

// Reply is an answer that was begun and goes to the client. Not safe for concurrent use.
type Reply struct {
	ctx      context.Context
	res      *upstream.Response
	call     *drivers.Call
	begun    time.Time
	kind     string
	encoding string // not empty: what the body says cannot be read
	stream   bool

	head []byte // what was read before the point from which there is no way back
	end  error  // why nothing follows head: io.EOF, or a fault; nil: more follows
	out  drivers.Outcome

	split    sse.Splitter
	parsed   bool // an event of the protocol was seen
	finished bool // a choice said why it ended
	terminal bool // the protocol's last event came
	failed   bool // the provider said itself that it failed
}

// Status is that of the provider's answer.
func (r *Reply) Status() int { return r.res.Status }

// ContentType is that of the body.
func (r *Reply) ContentType() string { return r.kind }

// Encoding is the Content-Encoding of the body; empty: none.
func (r *Reply) Encoding() string { return r.encoding }

// Peek is what was read of the body so far.
func (r *Reply) Peek() []byte { return r.head }

// Close ends the provider's answer.
func (r *Reply) Close() { _ = r.res.Close() }

// whole reads an answer that is no stream, as far as it may be held back.
func (r *Reply) whole() error {
	limit := r.call.Instance.Limits.Bytes
	if limit > 0 && r.res.Length > limit {
		return tooLarge()
	}
	size := int64(4 << 10)
	if r.res.Length >= 0 {
		size = min(r.res.Length, wholeLimit)
	}
	r.head = make([]byte, 0, size+1)
	for len(r.head) < wholeLimit {
		if len(r.head) == cap(r.head) {
			grown := make([]byte, len(r.head), 2*cap(r.head))
			copy(grown, r.head)
			r.head = grown
		}
		n, err := r.res.Read(r.head[len(r.head):cap(r.head)])
		r.came(n)
		r.head = r.head[:len(r.head)+n]
		if limit > 0 && int64(len(r.head)) > limit {
			return tooLarge()
		}
		if err == io.EOF {
			r.end = io.EOF
			break
		}
		if err != nil {
			return err
		}
	}
	if r.end != nil && r.res.Status < 300 && r.call.Protocol != protocol.Passthrough {
		r.usageOf(r.head)
	}
	return nil
}

func tooLarge() error {
	return &drivers.Failure{Status: http.StatusBadGateway, Body: errTooLarge.Error(), Err: errTooLarge}
}

// came notes when the first byte of the body was there.
func (r *Reply) came(n int) {
	if n > 0 && r.out.FirstToken.IsZero() {
		r.out.FirstToken = time.Now()
	}
}

// firstEvents reads until a stream has something to pass on. Until then its limits end it
// with an answer of their own, and so does more white space than an event may be long.
func (r *Reply) firstEvents() error {
	limits := r.call.Instance.Limits
	buf := buffers.Get().(*[32 << 10]byte)
	defer buffers.Put(buf)
	for held := int64(0); r.end == nil; {
		n, err := r.res.Read(buf[:])
		r.came(n)
		ready := r.feed(buf[:n])
		r.head = append(r.head, ready...)
		r.end = err
		if len(bytes.TrimSpace(ready)) > 0 {
			return nil // a fault that came with it ends what has begun
		}
		switch held += int64(n); {
		case limits.Bytes > 0 && held > limits.Bytes:
			return tooLarge()
		case limits.Duration > 0 && time.Since(r.begun) >= limits.Duration:
			return &drivers.Failure{Status: http.StatusGatewayTimeout, Body: errTooLong.Error(), Err: errTooLong}
		case len(r.head) > sse.MaxEvent:
			return &drivers.Failure{Status: http.StatusBadGateway, Err: errEmptyStream}
		}
	}
	if r.end != io.EOF {
		return r.end
	}
	rest := r.split.Close(r.event)
	switch {
	case len(bytes.TrimSpace(rest)) == 0:
		return &drivers.Failure{Status: http.StatusBadGateway, Err: errEmptyStream}
	case !r.complete():
		return errCut
	}
	r.head, r.split = append(r.head, rest...), sse.Splitter{}
	return nil
}

// feed returns what can be passed on of a stream after p. One in an encoding has no events
// to be seen, so nothing of it is held back.
func (r *Reply) feed(p []byte) []byte {
	if r.encoding != "" {
		return p
	}
	return r.split.Feed(p, r.event)
}

// Body is the whole answer, for those who want it instead of passing it on. One of more than
// limit bytes, or that ends before its protocol says so, is an error.
func (r *Reply) Body(limit int64) ([]byte, error) {
	body := append(r.head, r.split.Rest()...)
	for r.end == nil && int64(len(body)) <= limit {
		if len(body) == cap(body) {
			body = slices.Grow(body, max(len(body), 4<<10))
		}
		n, err := r.res.Read(body[len(body):cap(body)])
		body, r.end = body[:len(body)+n], err
		if r.stream {
			r.feed(body[len(body)-n:])
		}
	}
	switch {
	case int64(len(body)) > limit:
		return nil, fmt.Errorf("AI answer is larger than %d bytes", limit)
	case r.end != io.EOF:
		return nil, r.end
	}
	if r.stream {
		if r.split.Close(r.event); !r.complete() {
			return nil, errCut
		}
	}
	return body, nil
}

// Relay writes the answer to the client; a status that is set already stays. From its first
// byte on there is no way back. An error means that it was broken off, by either side, and
// that the client was made to see that.
func (r *Reply) Relay(out *exchange.Response) (drivers.Outcome, error) {
	if out.Status == 0 {
		out.Status = r.res.Status
	}
	out.Origin = exchange.FromUpstream
	if r.kind != "" {
		out.Header.Set("Content-Type", r.kind)
	}
	// Nobody asked for an encoding; a provider that chose one all the same must be understood.
	if r.encoding != "" {
		out.Header.Set("Content-Encoding", r.encoding)
	}
	if r.res.Status >= 400 {
		for _, f := range drivers.ErrorHeader(&r.res.Header) {
			out.Header.Add(f.Name, f.Value)
		}
	}
	r.out.Stream = r.stream
	var err error
	if r.stream {
		err = r.relayStream(out)
	} else {
		err = r.relayWhole(out)
	}
	if err != nil {
		out.Abort()
	}
	r.out.Complete = err == nil
	return r.out, err
}

// relayWhole passes on an answer that is no stream.
func (r *Reply) relayWhole(out *exchange.Response) error {
	out.Length = r.res.Length
	if r.end != nil {
		out.Length = int64(len(r.head))
	}
	if err := r.write(out, r.head, false); err != nil || r.end != nil {
		return err
	}
	buf := buffers.Get().(*[32 << 10]byte)
	defer buffers.Put(buf)
	for {
		n, err := r.res.Read(buf[:])
		if werr := r.write(out, buf[:n], false); werr != nil {
			return werr
		}
		switch limit := r.call.Instance.Limits.Bytes; {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		case limit > 0 && r.out.Length > limit:
			return errTooLarge
		}
	}
}

func (r *Reply) write(out *exchange.Response, p []byte, flush bool) error {
	if len(p) == 0 {
		return nil
	}
	if _, err := out.Write(p); err != nil {
		return err
	}
	r.out.Length += int64(len(p))
	if flush {
		return out.Flush()
	}
	return nil
}

// relayStream passes a stream on, and ends one that ends before its protocol says so with
// an error event (spec/00 3). An event that is not complete never gets to the client, so
// that the error event does not end up inside it. Within an encoding it would be garbage.
func (r *Reply) relayStream(out *exchange.Response) error {
	err := r.events(out)
	if err == nil || r.failed || r.encoding != "" || r.ctx.Err() != nil || out.Err() != nil {
		return err
	}
	event := errorEvent(r.call.Protocol, err)
	if r.split.Torn() {
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
	limits := r.call.Instance.Limits
	buf := buffers.Get().(*[32 << 10]byte)
	defer buffers.Put(buf)
	for r.end == nil {
		switch {
		case limits.Bytes > 0 && r.out.Length > limits.Bytes:
			return errTooLarge
		case limits.Duration > 0 && time.Since(r.begun) >= limits.Duration:
			return errTooLong
		}
		n, err := r.res.Read(buf[:])
		r.end = err
		if err := r.write(out, r.feed(buf[:n]), true); err != nil {
			return err
		}
	}
	if r.end != io.EOF {
		if r.terminal {
			return nil // all was said before the connection broke
		}
		return r.end
	}
	rest := r.split.Close(r.event)
	if !r.complete() {
		return errCut
	}
	return r.write(out, rest, true)
}

// complete judges the end of a stream whose framing has ended. One in which no event was
// of the protocol is judged by its framing alone.
func (r *Reply) complete() bool {
	if r.terminal || !r.parsed {
		return true
	}
	// A body that ends with its connection may have been cut anywhere.
	return r.finished && r.res.Framing != upstream.UntilClose
}

func errorEvent(id protocol.ID, err error) []byte {
	message := "upstream stream ended before it was complete"
	if errors.Is(err, errTooLarge) || errors.Is(err, errTooLong) {
		message = err.Error()
	}
	text := jsonedit.AppendQuote(nil, message)
	if id == protocol.OpenAIResponses {
		body := append([]byte(`{"type":"error","code":"upstream_error","param":null,"message":`), text...)
		return append([]byte("event: error\n"), sse.AppendEvent(nil, append(body, '}'))...)
	}
	body := append([]byte(`{"error":{"message":`), text...)
	return sse.AppendEvent(nil, append(body, `,"type":"upstream_error","param":null,"code":null}}`...))
}

var (
	doneEvent   = []byte("[DONE]")
	choicesName = []byte(`"choices"`)
	finishName  = []byte(`"finish_reason"`)
	usageName   = []byte(`"usage"`)
	toolsName   = []byte(`"tool_calls"`)
	typeName    = []byte(`"type"`)
	null        = []byte("null")
	blank       = []byte(`""`)
	noTools     = []byte("[]")
	errorStart  = []byte(`{"error"`)
	errorName   = errorStart[1:]

	// lastResponseEvents are the types after which nothing follows. An error is no end as the
	// protocol has it.
	lastResponseEvents = [][]byte{[]byte(`"response.completed"`), []byte(`"response.incomplete"`), []byte(`"response.failed"`), errorName}
)

// event looks at an event as it passes. Only those that can say something are decoded.
func (r *Reply) event(data []byte) {
	id := r.call.Protocol
	switch {
	case id == protocol.Passthrough || id == protocol.OpenAIEmbeddings:
		// Nothing is known of what such a stream says.
	case bytes.Equal(bytes.TrimSpace(data), doneEvent):
		r.terminal, r.parsed = true, true
	case len(data) == 0 || data[0] != '{':
	case bytes.HasPrefix(data, errorStart) && says(data, errorName):
		r.failed = true
	case id == protocol.OpenAIResponses:
		r.responseEvent(data)
	default:
		if bytes.Contains(data, choicesName) {
			r.parsed = true
			r.finished = r.finished || says(data, finishName)
			r.out.ToolCalls = r.out.ToolCalls || says(data, toolsName)
		}
		if says(data, usageName) {
			r.usageOf(data)
		}
	}
}

// responseEvent looks at an event of the protocol openai-responses.
func (r *Reply) responseEvent(data []byte) {
	if !bytes.Contains(data, typeName) {
		return
	}
	r.parsed = true
	for _, last := range lastResponseEvents {
		if !bytes.Contains(data, last) {
			continue
		}
		doc, err := jsonedit.IndexTrusted(data)
		if err != nil {
			return
		}
		// The words may also stand in a text.
		if kind, _, _ := doc.Get("type"); !bytes.Equal(kind, last) {
			continue
		}
		if bytes.Equal(last, errorName) {
			r.failed = true
			return
		}
		r.terminal = true
		if raw, kind, ok := doc.Get("response"); ok && kind == jsonedit.Object {
			r.usageOf(raw)
		}
		return
	}
}

// says reports whether a member of that name stands in data with a value that says something.
// Within a text the quote before it would be escaped.
func says(data, name []byte) bool {
	for from := 0; ; {
		i := bytes.Index(data[from:], name)
		if i < 0 {
			return false
		}
		i += from
		from = i + len(name)
		if i > 0 && data[i-1] == '\\' {
			continue
		}
		rest := bytes.TrimLeft(data[from:], " \t\r\n")
		if len(rest) == 0 || rest[0] != ':' {
			continue
		}
		value := bytes.TrimLeft(rest[1:], " \t\r\n")
		if !bytes.HasPrefix(value, null) && !bytes.HasPrefix(value, blank) && !bytes.HasPrefix(value, noTools) {
			return true
		}
	}
}

// usageOf reads the usage of a chat's answer or chunk.
func (r *Reply) usageOf(data []byte) {
	doc, err := jsonedit.IndexTrusted(data)
	if err != nil {
		return
	}
	r.out.ToolCalls = r.out.ToolCalls || says(data, toolsName)
	raw, kind, ok := doc.Get("usage")
	if !ok || kind != jsonedit.Object {
		return
	}
	r.out.Usage = usage(raw)
}

// usage reads both families of names (spec/06 §A10). Negative counts are none.
func usage(raw []byte) (u drivers.Usage) {
	_ = jsonedit.Members(raw, func(name string, value []byte, kind jsonedit.Kind) error {
		n := count(value)
		switch name {
		case "prompt_tokens", "input_tokens":
			u.Prompt = n
		case "completion_tokens", "output_tokens":
			u.Completion = n
		case "total_tokens":
			u.Total = n
		case "prompt_cache_hit_tokens":
			u.Cached = n
		case "prompt_tokens_details", "input_tokens_details":
			u.Cached = max(u.Cached, member(value, kind, "cached_tokens"))
		case "completion_tokens_details", "output_tokens_details":
			u.Reasoning = member(value, kind, "reasoning_tokens")
		}
		return nil
	})
	if u.Total == 0 {
		u.Total = u.Prompt + u.Completion
	}
	return u
}

func member(raw []byte, kind jsonedit.Kind, want string) (n int64) {
	if kind != jsonedit.Object {
		return 0
	}
	_ = jsonedit.Members(raw, func(name string, value []byte, _ jsonedit.Kind) error {
		if name == want {
			n = count(value)
		}
		return nil
	})
	return n
}

func count(raw []byte) int64 {
	n, err := strconv.ParseInt(string(raw), 10, 64)
	if err != nil {
		return 0
	}
	return max(n, 0)
}
