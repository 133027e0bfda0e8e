package openai

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
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

// Begin reads a whole answer, or the first piece of a stream.
func (d *driver) Begin(ctx context.Context, res *upstream.Response, c *drivers.Call) (drivers.Reply, error) {
	r := &reply{ctx: ctx, res: res, call: c, begun: time.Now()}
	r.kind = res.Header.Get("Content-Type")
	r.stream = strings.HasPrefix(strings.ToLower(r.kind), "text/event-stream")
	var err error
	if r.stream && res.Status < 300 {
		err = r.firstPiece()
	} else {
		err = r.whole()
	}
	if err != nil {
		_ = res.Close()
		return nil, err
	}
	return r, nil
}

// reply is an answer that was begun.
type reply struct {
	ctx    context.Context
	res    *upstream.Response
	call   *drivers.Call
	begun  time.Time
	kind   string
	stream bool

	head  []byte // what was read before the commit point
	ended bool   // head is all there is
	out   drivers.Outcome

	scan     sse.Scanner
	parsed   bool // an event of the protocol was seen
	finished bool // a choice said why it ended
	terminal bool // the protocol's last event came
}

func (r *reply) Status() int         { return r.res.Status }
func (r *reply) ContentType() string { return r.kind }
func (r *reply) Close()              { _ = r.res.Close() }

// whole reads an answer that is no stream, as far as it may be held back.
func (r *reply) whole() error {
	limit := r.call.Instance.Limits.Bytes
	if limit > 0 && r.res.Length > limit {
		return &drivers.Failure{Status: http.StatusBadGateway, Body: []byte(errTooLarge.Error()), Err: errTooLarge}
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
		if n > 0 && r.out.FirstToken.IsZero() {
			r.out.FirstToken = time.Now()
		}
		r.head = r.head[:len(r.head)+n]
		if limit > 0 && int64(len(r.head)) > limit {
			return &drivers.Failure{Status: http.StatusBadGateway, Body: []byte(errTooLarge.Error()), Err: errTooLarge}
		}
		if err == io.EOF {
			r.ended = true
			break
		}
		if err != nil {
			return err
		}
	}
	if r.ended && r.res.Status < 300 {
		r.usageOf(r.head)
	}
	return nil
}

// firstPiece reads until a stream has said something.
func (r *reply) firstPiece() error {
	buf := buffers.Get().(*[32 << 10]byte)
	defer buffers.Put(buf)
	for {
		n, err := r.res.Read(buf[:])
		if n > 0 {
			if r.out.FirstToken.IsZero() {
				r.out.FirstToken = time.Now()
			}
			r.head = append(r.head, buf[:n]...)
			r.look(buf[:n])
			if r.parsed || !r.scan.Pending() || len(r.head) > wholeLimit {
				return nil
			}
		}
		switch {
		case err == io.EOF && len(bytes.TrimSpace(r.head)) == 0:
			return &drivers.Failure{Status: http.StatusBadGateway, Err: errEmptyStream}
		case err == io.EOF:
			r.ended = true
			return nil
		case err != nil && len(r.head) > 0:
			return nil // it comes again, and ends what has begun
		case err != nil:
			return err
		}
	}
}

// Body collects the whole answer.
func (r *reply) Body(limit int64) ([]byte, error) {
	if r.ended {
		return r.head, nil
	}
	rest, err := io.ReadAll(io.LimitReader(r.res, limit-int64(len(r.head))+1))
	if err != nil {
		return nil, err
	}
	if int64(len(r.head)+len(rest)) > limit {
		return nil, &exchange.TooLargeError{Size: int64(len(r.head) + len(rest)), Max: limit}
	}
	return append(r.head, rest...), nil
}

// Relay writes the answer to the client. From its first byte on there is no way back.
func (r *reply) Relay(out *exchange.Response) (drivers.Outcome, error) {
	out.Status, out.Origin = r.res.Status, exchange.FromUpstream
	if r.kind != "" {
		out.Header.Set("Content-Type", r.kind)
	}
	if r.res.Status >= 400 {
		for _, f := range drivers.ErrorHeader(&r.res.Header) {
			out.Header.Add(f.Name, f.Value)
		}
	}
	r.out.Stream = r.stream && r.res.Status < 300
	if r.out.Stream {
		out.Header.Set("Cache-Control", "no-cache")
		return r.relayStream(out)
	}
	if r.ended {
		out.Length = int64(len(r.head))
	} else {
		out.Length = r.res.Length
	}
	err := r.copy(out, func([]byte) {})
	r.out.Complete = err == nil
	if err != nil {
		out.Abort()
	}
	return r.out, err
}

// copy writes what was read and what follows. A stream is flushed at every piece: what the
// provider sent by itself the client gets by itself.
func (r *reply) copy(out *exchange.Response, see func([]byte)) error {
	limits := r.call.Instance.Limits
	piece := r.head
	buf := buffers.Get().(*[32 << 10]byte)
	defer buffers.Put(buf)
	for {
		if len(piece) > 0 {
			if _, err := out.Write(piece); err != nil {
				return err
			}
			r.out.Length += int64(len(piece))
			if r.stream {
				if err := out.Flush(); err != nil {
					return err
				}
			}
		}
		if r.ended {
			return nil
		}
		if limits.Bytes > 0 && r.out.Length > limits.Bytes {
			return errTooLarge
		}
		if r.stream && limits.Duration > 0 && time.Since(r.begun) >= limits.Duration {
			return errTooLong
		}
		n, err := r.res.Read(buf[:])
		piece = buf[:n]
		see(piece)
		if err == io.EOF {
			r.ended = true
		} else if err != nil {
			return err
		}
	}
}

// relayStream passes a stream on. One that ends before its protocol says so ends with an
// error event and a broken connection (spec/00 3).
func (r *reply) relayStream(out *exchange.Response) (drivers.Outcome, error) {
	err := r.copy(out, r.look)
	if err == nil && !r.complete() {
		err = errCut
	}
	r.out.Complete = err == nil
	if err == nil || r.ctx.Err() != nil || out.Err() != nil {
		return r.out, err
	}
	event := errorEvent(r.call.Protocol, err)
	if r.scan.Pending() {
		event = append([]byte("\n\n"), event...)
	}
	if _, werr := out.Write(event); werr == nil {
		_ = out.Flush()
	}
	out.Abort()
	return r.out, err
}

// complete judges the end of a stream. One in which no event was of the protocol is judged
// by its framing alone, which has ended.
func (r *reply) complete() bool {
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
	body := append([]byte(`{"error":{"message":`), jsonedit.AppendQuote(nil, message)...)
	body = append(body, `,"type":"upstream_error","param":null,"code":null}}`...)
	if id == protocol.OpenAIResponses {
		body = append([]byte(`{"type":"error","code":"upstream_error","param":null,"message":`), jsonedit.AppendQuote(nil, message)...)
		body = append(body, '}')
		return append([]byte("event: error\n"), sse.AppendEvent(nil, body)...)
	}
	return sse.AppendEvent(nil, body)
}

// look reads events as they pass. Only those that can say something are decoded.
func (r *reply) look(p []byte) { r.scan.Feed(p, r.event) }

var (
	doneEvent    = []byte("[DONE]")
	choicesName  = []byte(`"choices"`)
	finishName   = []byte(`"finish_reason"`)
	usageName    = []byte(`"usage"`)
	toolsName    = []byte(`"tool_calls"`)
	responseType = []byte(`"type"`)
)

func (r *reply) event(data []byte) {
	switch {
	case bytes.Equal(bytes.TrimSpace(data), doneEvent):
		r.terminal, r.parsed = true, true
	case len(data) == 0 || data[0] != '{':
	case r.call.Protocol == protocol.OpenAIResponses:
		if !bytes.Contains(data, responseType) {
			return
		}
		r.parsed = true
		for _, last := range []string{`"response.completed"`, `"response.incomplete"`, `"response.failed"`} {
			if bytes.Contains(data, []byte(last)) {
				r.terminal = true
				r.responsesUsage(data)
			}
		}
	case bytes.Contains(data, choicesName):
		r.parsed = true
		r.finished = r.finished || says(data, finishName)
		r.out.ToolCalls = r.out.ToolCalls || says(data, toolsName)
		if says(data, usageName) {
			r.usageOf(data)
		}
	case says(data, usageName):
		r.usageOf(data)
	}
}

// says reports whether a member of that name stands in data with another value than null.
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
		if !bytes.HasPrefix(bytes.TrimLeft(rest[1:], " \t\r\n"), []byte("null")) {
			return true
		}
	}
}

// usageOf reads the usage of a chat's answer or chunk.
func (r *reply) usageOf(data []byte) {
	doc, err := jsonedit.Index(data, jsonedit.Options{MaxDepth: 1 << 10})
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

func (r *reply) responsesUsage(data []byte) {
	doc, err := jsonedit.Index(data, jsonedit.Options{MaxDepth: 1 << 10})
	if err != nil {
		return
	}
	if raw, kind, ok := doc.Get("response"); ok && kind == jsonedit.Object {
		r.usageOf(raw)
	}
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
