package t

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// frames is a client of HTTP/2 that sends what it is told to, allowed or not.
type frames struct {
	net.Conn
	*http2.Framer
	block  bytes.Buffer
	encode *hpack.Encoder
	decode *hpack.Decoder
	fields []hpack.HeaderField // of the block that was read last
	next   uint32              // the number of the next stream
	ended  map[uint32]*h2answer
}

// h2answer is what became of a stream.
type h2answer struct {
	status int
	to     string
	body   strings.Builder
	reset  string // why it was reset; empty: it was not
	done   bool
}

func (w *wireWorld) dialH2(settings ...http2.Setting) *frames {
	w.t.Helper()
	c := w.dial()
	f := &frames{Conn: c, Framer: http2.NewFramer(c, c.r), next: 1, ended: map[uint32]*h2answer{}}
	f.AllowIllegalWrites, f.AllowIllegalReads = true, true
	f.encode = hpack.NewEncoder(&f.block)
	f.decode = hpack.NewDecoder(4096, func(h hpack.HeaderField) { f.fields = append(f.fields, h) })
	if _, err := io.WriteString(c, http2.ClientPreface); err != nil {
		w.t.Fatal(err)
	}
	if err := f.WriteSettings(settings...); err != nil {
		w.t.Fatal(err)
	}
	return f
}

// open begins a stream with these fields, of which none is checked.
func (f *frames) open(fields [][2]string, end bool) uint32 {
	id := f.next
	f.next += 2
	f.ended[id] = new(h2answer)
	f.headers(id, fields, end)
	return id
}

func (f *frames) headers(id uint32, fields [][2]string, end bool) {
	f.block.Reset()
	for _, h := range fields {
		_ = f.encode.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]})
	}
	block := f.block.Bytes()
	first := block[:min(len(block), 16<<10)]
	_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: first, EndStream: end, EndHeaders: len(first) == len(block)})
	for rest := block[len(first):]; len(rest) > 0; {
		piece := rest[:min(len(rest), 16<<10)]
		rest = rest[len(piece):]
		_ = f.WriteContinuation(id, len(rest) == 0, piece)
	}
}

// await reads until a stream has ended. The error is the end of the connection.
func (f *frames) await(id uint32) (*h2answer, error) {
	for !f.ended[id].done {
		if err := f.step(); err != nil {
			return f.ended[id], err
		}
	}
	return f.ended[id], nil
}

var errGoAway = errors.New("the server said GOAWAY with an error")

// step reads a frame.
func (f *frames) step() error {
	frame, err := f.ReadFrame()
	if err != nil {
		return err
	}
	a := f.ended[frame.Header().StreamID]
	if a == nil {
		a = new(h2answer)
	}
	switch v := frame.(type) {
	case *http2.HeadersFrame:
		if !v.HeadersEnded() {
			return errors.New("an answer with a long head")
		}
		f.fields = f.fields[:0]
		if _, err := f.decode.Write(v.HeaderBlockFragment()); err != nil {
			return err
		}
		for _, h := range f.fields {
			switch h.Name {
			case ":status":
				a.status, _ = strconv.Atoi(h.Value)
			case "x-answer-to":
				a.to = h.Value
			}
		}
		a.done = a.done || v.StreamEnded()
	case *http2.DataFrame:
		a.body.Write(v.Data())
		a.done = a.done || v.StreamEnded()
	case *http2.RSTStreamFrame:
		a.reset, a.done = v.ErrCode.String(), true
	case *http2.SettingsFrame:
		if !v.IsAck() {
			return f.WriteSettingsAck()
		}
	case *http2.PingFrame:
		if !v.IsAck() {
			return f.WritePing(true, v.Data)
		}
	case *http2.GoAwayFrame:
		if v.ErrCode != http2.ErrCodeNo {
			return errGoAway
		}
	}
	return nil
}

func asked(method, path, tag string, more ...[2]string) [][2]string {
	return append([][2]string{{":method", method}, {":scheme", "http"}, {":authority", "wire.test"}, {":path", path}, {"x-tag", tag}}, more...)
}

// altered is a request with a field of another value, of several, or without it.
func altered(name string, values ...string) func(string) [][2]string {
	return func(tag string) (fields [][2]string) {
		for _, h := range asked("POST", "/wire/x", tag) {
			if h[0] != name {
				fields = append(fields, h)
				continue
			}
			for _, v := range values {
				fields = append(fields, [2]string{name, v})
			}
		}
		return fields
	}
}

// with is a request with more fields.
func with(more ...string) func(string) [][2]string {
	return func(tag string) [][2]string {
		fields := asked("POST", "/wire/x", tag)
		for i := 0; i+1 < len(more); i += 2 {
			fields = append(fields, [2]string{more[i], more[i+1]})
		}
		return fields
	}
}

const splitting = "x HTTP/1.1\r\nHost: wire.test\r\n\r\nGET /smuggled HTTP/1.1\r\nX-Canary: canary"

// What HTTP/2 can say and HTTP/1.1 cannot must not become two requests on the way to the
// provider, nor something that no plugin saw.
func (w *wireWorld) downgrade() {
	cases := []struct {
		name   string
		fields func(tag string) [][2]string
		body   string
		want   outcome
	}{
		{"a request is served", with(), "hello", served},
		{"a length that is right is served", with("content-length", "5"), "hello", served},

		{"no method is refused", altered(":method"), "hello", refused},
		{"no path is refused", altered(":path"), "hello", refused},
		{"no scheme is refused", altered(":scheme"), "hello", refused},
		{"an empty method is refused", altered(":method", ""), "hello", refused},
		{"an empty path is refused", altered(":path", ""), "hello", refused},
		{"two methods are refused", altered(":method", "POST", "GET"), "hello", refused},
		{"two paths are refused", altered(":path", "/wire/x", "/smuggled"), "hello", refused},
		{"two authorities are refused", altered(":authority", "wire.test", "other.test"), "hello", refused},
		{"a pseudo-header behind a field is refused", with(":path", "/smuggled"), "hello", refused},
		{"a pseudo-header that nobody knows is refused", func(tag string) [][2]string {
			return append([][2]string{{":canary", "canary"}}, asked("POST", "/wire/x", tag)...)
		}, "hello", refused},
		{"a status in a request is refused", func(tag string) [][2]string {
			return append([][2]string{{":status", "200"}}, asked("POST", "/wire/x", tag)...)
		}, "hello", refused},
		{"a protocol without CONNECT is refused", func(tag string) [][2]string {
			return append([][2]string{{":protocol", "websocket"}}, asked("POST", "/wire/x", tag)...)
		}, "hello", refused},

		{"a method that splits is refused", altered(":method", "POST /wire/"+splitting), "hello", refused},
		{"a method with a space is refused", altered(":method", "GET /smuggled"), "hello", refused},
		{"a path that splits is refused", altered(":path", "/wire/"+splitting), "hello", refused},
		{"a path with a space is refused", altered(":path", "/wire/x HTTP/1.1"), "hello", refused},
		{"a path with a tab is refused", altered(":path", "/wire/x\ty"), "hello", refused},
		{"a path with a NUL is refused", altered(":path", "/wire/x\x00"), "hello", refused},
		{"a path with LF is refused", altered(":path", "/wire/x\ny"), "hello", refused},
		{"a path with a fragment is refused", altered(":path", "/wire/x#y"), "hello", refused},
		{"a path without a slash is refused", altered(":path", "wire/x"), "hello", refused},
		{"a path that is an address goes nowhere else", altered(":path", "http://other.test/wire/x"), "hello", refused},
		{"an authority that splits is refused", altered(":authority", "wire.test\r\nX-Canary: canary"), "hello", refused},
		{"an authority with a path is refused", altered(":authority", "wire.test/smuggled?"), "hello", refused},
		{"an authority with a user is refused", altered(":authority", "canary@wire.test"), "hello", refused},
		{"an authority with a space is refused", altered(":authority", "wire.test other.test"), "hello", refused},
		{"a scheme that splits does not pass", altered(":scheme", "http://canary/"+splitting), "hello", sound},
		{"CONNECT is refused", func(tag string) [][2]string {
			return [][2]string{{":method", "CONNECT"}, {":authority", "wire.test:443"}, {"x-tag", tag}}
		}, "hello", refused},
		{"CONNECT with a path is refused", altered(":method", "CONNECT"), "hello", refused},
		{"TRACE is refused", altered(":method", "TRACE"), "hello", refused},
		{"PRI is refused", altered(":method", "PRI"), "hello", refused},

		{"a host that is the authority is served", with("host", "wire.test"), "hello", served},
		{"a host that is another is refused", with("host", "other.test"), "hello", refused},
		{"two hosts are refused", with("host", "wire.test", "host", "other.test"), "hello", refused},
		{"a host without an authority is one", func(tag string) [][2]string {
			return [][2]string{{":method", "POST"}, {":scheme", "http"}, {":path", "/wire/x"}, {"host", "wire.test"}, {"x-tag", tag}}
		}, "hello", served},
		{"neither host nor authority is no host", altered(":authority"), "hello", sound},

		{"a length below the body is refused", with("content-length", "3"), "hello", refused},
		{"a length above the body is refused", with("content-length", "50"), "hello", refused},
		{"a length of zero before a body hides no request", with("content-length", "0"), smuggled, sound},
		{"two different lengths are refused", with("content-length", "5", "content-length", "50"), "hello", refused},
		{"two equal lengths frame nothing", with("content-length", "5", "content-length", "5"), "hello", sound},
		{"a length with a plus is refused", with("content-length", "+5"), "hello", refused},
		{"a length that is a list is refused", with("content-length", "5, 5"), "hello", refused},
		{"a length above 64 bits is refused", with("content-length", "18446744073709551621"), "hello", refused},
		{"an encoding is refused", with("transfer-encoding", "chunked"), "0\r\n\r\n" + smuggled, refused},
		{"an encoding in upper case is refused", with("Transfer-Encoding", "chunked"), "0\r\n\r\n" + smuggled, refused},
		{"an encoding with an underscore frames nothing", with("transfer_encoding", "chunked"), "0\r\n\r\n" + smuggled, served},

		{"a name in upper case is refused", with("X-Canary", "canary"), "hello", refused},
		{"a name with a colon is refused", with("x-canary: a", "canary"), "hello", refused},
		{"a name with a space is refused", with("x canary", "canary"), "hello", refused},
		{"a name that splits is refused", with("x-a: b\r\ntransfer-encoding", "chunked"), "hello", refused},
		{"a name with LF is refused", with("x-a\nx-canary", "canary"), "hello", refused},
		{"a name with a NUL is refused", with("x-a\x00", "canary"), "hello", refused},
		{"an empty name is refused", with("", "canary"), "hello", refused},
		{"a value that splits is refused", with("x-a", "b\r\n\r\nGET /smuggled HTTP/1.1\r\nX-Canary: canary"), "hello", refused},
		{"a value with LF is refused", with("x-a", "b\nx-canary: canary"), "hello", refused},
		{"a value with CR is refused", with("x-a", "b\rx-canary: canary"), "hello", refused},
		{"a value with a NUL is refused", with("x-a", "b\x00canary"), "hello", refused},
		{"a value between spaces frames nothing", with("x-a", " b "), "hello", sound},
		{"Connection is refused", with("connection", "x-one", "x-one", "canary"), "hello", refused},
		{"Upgrade is refused", with("upgrade", "h2c"), "hello", refused},
		{"Keep-Alive is refused", with("keep-alive", "canary"), "hello", refused},
		{"Proxy-Connection is refused", with("proxy-connection", "canary"), "hello", refused},
		{"TE of trailers does not pass", with("te", "trailers"), "hello", served},
		{"TE of something else is refused", with("te", "canary"), "hello", refused},
		{"an identity with underscores does not pass", with("x_consumer_username", "canary"), "hello", served},
		{"an expectation does not pass", with("expect", "100-continue"), "hello", served},
	}
	for i, c := range cases {
		w.t.Run(c.name, func(t *testing.T) {
			w, tag := w.on(t), fmt.Sprintf("h2case%d", i)
			f := w.dialH2()
			defer func() { _ = f.Close() }()
			id := f.open(c.fields(tag), false)
			_ = f.WriteData(id, true, []byte(c.body))
			a, err := f.await(id)
			took := w.up.tagged(tag)
			fine := err == nil && a.reset == "" && a.status == 200
			switch {
			case c.want == served && (!fine || len(took) != 1):
				t.Errorf("it was not served: got %d, reset %q, %v", a.status, a.reset, err)
			case c.want == refused && (fine || len(took) != 0):
				t.Errorf("it was served: got %d, reset %q, %v", a.status, a.reset, err)
			case !fine && err == nil && a.reset == "" && !slices.Contains(refusals, a.status):
				t.Errorf("it was refused with %d", a.status)
			}
			for i := range took {
				if took[i].body != c.body && (c.want == served || took[i].body != "") || fine && a.body.String() != took[i].digest() {
					t.Errorf("the provider parsed %q, want %q; the answer says %q", took[i].body, c.body, a.body.String())
				}
			}
			if err == nil {
				// The connection goes on, and its next stream has nothing of this one.
				next := f.open(asked("GET", "/wire/next", tag+".next"), true)
				if b, err := f.await(next); !errors.Is(err, errGoAway) && !errors.Is(err, io.EOF) &&
					(err != nil || b.status != 200 || b.to != tag+".next" || b.body.String() != digest("GET", "/wire/next", "")) {
					t.Errorf("the next stream got %d %q, reset %q, %v", b.status, b.body.String(), b.reset, err)
				}
			}
			for _, complaint := range w.up.complaints() {
				t.Error(complaint)
			}
		})
	}
	w.t.Run("trailers do not pass", func(t *testing.T) { w.on(t).trailers() })
	w.t.Run("bodies of several streams do not mix", func(t *testing.T) { w.on(t).interleaved() })
	w.well("after.downgrade")
}

func (w *wireWorld) trailers() {
	for i, tt := range []struct {
		fields [][2]string
		fine   bool
	}{
		{[][2]string{{"x-late", "canary"}, {"x-consumer-username", "canary"}}, true},
		{[][2]string{{"authorization", "canary"}, {"content-length", "50"}}, false},
		{[][2]string{{":path", "/smuggled"}}, false},
		{[][2]string{{"x-late", "canary\r\n\r\n" + smuggled}}, false},
	} {
		tag := fmt.Sprintf("trailer%d", i)
		f := w.dialH2()
		id := f.open(asked("POST", "/wire/x", tag, [2]string{"trailer", "x-late"}), false)
		_ = f.WriteData(id, false, []byte("hello"))
		f.headers(id, tt.fields, true)
		a, err := f.await(id)
		if fine := err == nil && a.reset == "" && a.status == 200; fine && !tt.fine {
			w.t.Errorf("%q was served", tt.fields)
		} else if tt.fine && !fine {
			w.t.Errorf("%q: got %d, reset %q, %v", tt.fields, a.status, a.reset, err)
		}
		for _, q := range w.up.tagged(tag) {
			if q.body != "hello" {
				w.t.Errorf("the provider parsed %q", q.body)
			}
		}
		_ = f.Close()
	}
	for _, complaint := range w.up.complaints() {
		w.t.Error(complaint)
	}
}

func (w *wireWorld) interleaved() {
	const streams = 20
	f := w.dialH2()
	defer func() { _ = f.Close() }()
	ids, bodies := make([]uint32, streams), make([]string, streams)
	for i := range ids {
		ids[i] = f.open(asked("POST", "/wire/x", fmt.Sprintf("mixed%d", i)), false)
	}
	for round := range 10 {
		for i, id := range ids {
			piece := strings.Repeat(string(rune('a'+i)), 100)
			bodies[i] += piece
			_ = f.WriteData(id, round == 9, []byte(piece))
		}
	}
	for i, id := range ids {
		a, err := f.await(id)
		if err != nil || a.to != fmt.Sprintf("mixed%d", i) || a.body.String() != digest("POST", "/wire/x", bodies[i]) {
			w.t.Fatalf("stream %d got %d %q, reset %q, %v", id, a.status, a.body.String(), a.reset, err)
		}
	}
}

// hostile clients of HTTP/2: each does one thing as often as it is let, and then goes.
func (w *wireWorld) hostile() {
	get := func(tag string) [][2]string { return asked("GET", "/wire/flood", tag) }
	for name, attack := range map[string]func(*frames, int) error{
		"rapid reset": func(f *frames, i int) error {
			id := f.open(get(fmt.Sprintf("reset%d", i)), true)
			delete(f.ended, id)
			return f.WriteRSTStream(id, http2.ErrCodeCancel)
		},
		"resets that the server is made to send": func(f *frames, i int) error {
			id := f.open(get(fmt.Sprintf("made%d", i)), true)
			delete(f.ended, id)
			return f.WriteWindowUpdate(id, 1<<31-1)
		},
		"pings": func(f *frames, _ int) error { return f.WritePing(false, [8]byte{1}) },
		"settings": func(f *frames, i int) error {
			return f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: uint32(1 + i%100)})
		},
		"a head without an end": func(f *frames, i int) error {
			if i == 0 {
				f.block.Reset()
				for _, h := range get("endless") {
					_ = f.encode.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]})
				}
				return f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: f.block.Bytes(), EndStream: true})
			}
			f.block.Reset()
			_ = f.encode.WriteField(hpack.HeaderField{Name: "x-a", Value: strings.Repeat("a", 4000)})
			return f.WriteContinuation(1, false, f.block.Bytes())
		},
		"a head of one field over and over": func(f *frames, i int) error {
			fields := get(fmt.Sprintf("hpack%d", i))
			value := strings.Repeat("a", 3000)
			for range 4000 { // one byte each, from the second on
				fields = append(fields, [2]string{"x-a", value})
			}
			delete(f.ended, f.open(fields, true))
			return nil
		},
		"empty frames": func(f *frames, i int) error {
			if i == 0 {
				f.open(asked("POST", "/wire/flood", "empty"), false)
			}
			return f.WriteData(1, false, nil)
		},
	} {
		w.t.Run(name, func(t *testing.T) {
			w, tag := w.on(t), strings.ReplaceAll(name, " ", "-")
			f := w.dialH2()
			read := make(chan struct{})
			go func() {
				defer close(read)
				_, _ = io.Copy(io.Discard, f.Conn)
			}()
			for i := range 3000 {
				if i%50 == 49 && strings.Contains(name, "field over") {
					break // as many as any server reads before it ends this
				}
				if attack(f, i) != nil {
					break
				}
				if i == 1500 {
					w.well(tag + ".during")
				}
			}
			w.well(tag + ".after")
			_ = f.Close()
			<-read
			w.node.alive()
		})
	}
	w.t.Run("windows of one byte", func(t *testing.T) {
		w := w.on(t)
		f := w.dialH2(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1})
		defer func() { _ = f.Close() }()
		const streams = 50
		ids := make([]uint32, streams)
		for i := range ids {
			ids[i] = f.open(asked("GET", pathBig, fmt.Sprintf("window%d", i)), true)
		}
		begun := func() (n int) {
			for _, id := range ids {
				if f.ended[id].body.Len() > 0 {
					n++
				}
			}
			return n
		}
		for begun() < streams {
			if err := f.step(); err != nil {
				t.Fatalf("after %d streams: %v", begun(), err)
			}
		}
		w.well("window.during")
		for range 200 {
			_ = f.WriteWindowUpdate(ids[0], 1)
			for had := f.ended[ids[0]].body.Len(); f.ended[ids[0]].body.Len() == had; {
				if err := f.step(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if got := f.ended[ids[0]].body.Len(); got != 201 {
			t.Errorf("got %d bytes by windows of one", got)
		}
		for _, id := range ids {
			_ = f.WriteRSTStream(id, http2.ErrCodeCancel)
		}
		w.well("window.after")
	})
}
