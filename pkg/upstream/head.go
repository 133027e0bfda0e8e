package upstream

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"

	"github.com/gosix/gosix/pkg/exchange"
)

// head is the assembled head of a request, and room for a small body behind it.
type head struct {
	buf  []byte
	size int
	vec  net.Buffers
}

var headPool = sync.Pool{New: func() any { return &head{buf: make([]byte, 0, 8<<10)} }}

var errUnsafe = errors.New("request has a control character where none may be")

// assemble writes the head of r. Nothing in it can begin another line: what could is
// refused, not repaired.
func assemble(r *Request) (*head, error) {
	if !token(r.Method) || !visible(r.Path) || r.Path == "" || !visible(r.Host) || r.Upgrade != "" && !value(r.Upgrade) {
		return nil, errUnsafe
	}
	h := headPool.Get().(*head)
	b := append(h.buf[:0], r.Method...)
	b = append(append(b, ' '), r.Path...)
	b = append(append(b, " HTTP/1.1\r\nHost: "...), r.Host...)
	b = append(b, '\r', '\n')
	if r.Header != nil {
		for _, f := range r.Header.Fields() {
			if !token(f.Name) || !value(f.Value) {
				headPool.Put(h)
				return nil, fmt.Errorf("header %q: %w", f.Name, errUnsafe)
			}
			b = append(append(append(append(b, f.Name...), ": "...), f.Value...), '\r', '\n')
		}
	}
	switch {
	case r.Stream != nil && r.Length < 0:
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	case r.Stream != nil:
		b = length(b, r.Length)
	case r.Body != nil:
		n := 0
		for _, s := range r.Body {
			n += len(s)
		}
		b = length(b, int64(n))
	case r.Method == "POST" || r.Method == "PUT" || r.Method == "PATCH":
		b = length(b, 0)
	}
	switch {
	case r.Upgrade != "":
		b = append(append(append(b, "Connection: Upgrade\r\nUpgrade: "...), r.Upgrade...), '\r', '\n')
	case r.Target.NoKeepAlive:
		b = append(b, "Connection: close\r\n"...)
	}
	h.buf = append(b, '\r', '\n')
	h.size = len(h.buf)
	return h, nil
}

func length(b []byte, n int64) []byte {
	return append(strconv.AppendInt(append(b, "Content-Length: "...), n, 10), '\r', '\n')
}

// tokens marks the bytes that names may have (RFC 9110 §5.6.2).
var tokens = func() (t [256]bool) {
	for c := '0'; c <= '9'; c++ {
		t[c] = true
	}
	for c := 'a'; c <= 'z'; c++ {
		t[c], t[c-'a'+'A'] = true, true
	}
	for _, c := range "!#$%&'*+-.^_`|~" {
		t[c] = true
	}
	return t
}()

func token[T string | []byte](s T) bool {
	for i := 0; i < len(s); i++ {
		if !tokens[s[i]] {
			return false
		}
	}
	return len(s) > 0
}

// visible reports whether s has neither spaces nor control characters.
func visible(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] <= ' ' || s[i] == 0x7f {
			return false
		}
	}
	return true
}

// value reports whether s may stand as a header's value.
func value[T string | []byte](s T) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' && s[i] != '\t' || s[i] == 0x7f {
			return false
		}
	}
	return true
}

// ProtocolError is an answer that is not HTTP/1.1, or leaves its end open to doubt.
type ProtocolError string

func (e ProtocolError) Error() string { return "malformed response: " + string(e) }

const maxInformational = 8

// readHead reads up to the head of the final answer.
func (res *Response) readHead(o Options) error {
	k := res.conn
	for range maxInformational {
		raw, err := k.head(res.req, o.HeadBytes)
		if err != nil {
			return err
		}
		if err := res.parse(raw, o.HeadFields); err != nil {
			return err
		}
		switch {
		case res.Status == 101 && res.req.Upgrade != "":
			return nil
		case res.Status == 101:
			return ProtocolError("protocol switched without being asked")
		case res.Status >= 200:
			return nil
		}
	}
	return ProtocolError("too many informational answers")
}

var endOfHead = []byte("\r\n\r\n")

// head reads until the empty line and returns the head with it. The bytes are the
// connection's.
func (k *conn) head(r *Request, limit int) ([]byte, error) {
	looked := 0
	for {
		if i := bytes.Index(k.buf[k.r+looked:k.w], endOfHead); i >= 0 {
			start, end := k.r, k.r+looked+i+len(endOfHead)
			if end-start > limit {
				return nil, ProtocolError("head is larger than " + strconv.Itoa(limit) + " bytes")
			}
			k.r = end
			return k.buf[start:end], nil
		}
		looked = max(0, k.w-k.r-len(endOfHead)+1)
		if k.w-k.r >= limit {
			return nil, ProtocolError("head is larger than " + strconv.Itoa(limit) + " bytes")
		}
		k.deadline(k.SetReadDeadline, r.Timeouts.Head)
		if err := k.fill(); err != nil {
			if err == io.EOF && k.w > k.r {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
}

// fill reads more into the buffer, moving or growing it when it is full.
func (k *conn) fill() error {
	if k.r == k.w {
		k.r, k.w = 0, 0
	}
	if k.w == len(k.buf) {
		if k.r > 0 {
			k.w = copy(k.buf, k.buf[k.r:k.w])
			k.r = 0
		} else {
			grown := make([]byte, max(4<<10, 2*len(k.buf)))
			copy(grown, k.buf[:k.w])
			k.buf = grown
		}
	}
	n, err := k.Conn.Read(k.buf[k.w:])
	k.w += n
	if n > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// parse reads a head. All names and values share one string.
func (res *Response) parse(raw []byte, maxFields int) error {
	text := string(raw[:len(raw)-2]) // without the empty line
	line, rest, _ := strings.Cut(text, "\r\n")
	if len(line) < 12 || line[:7] != "HTTP/1." || line[7] != '0' && line[7] != '1' || line[8] != ' ' ||
		len(line) > 12 && line[12] != ' ' || !value(line) {
		return ProtocolError("status line")
	}
	old := line[7] == '0'
	status := 0
	for _, c := range line[9:12] {
		if c < '0' || c > '9' {
			return ProtocolError("status line")
		}
		status = status*10 + int(c-'0')
	}
	if status < 100 {
		return ProtocolError("status line")
	}
	res.Status, res.Reason = status, ""
	if len(line) > 13 {
		res.Reason = line[13:]
	}
	res.Header.Reset()
	f := framing{length: -1, keep: !old}
	for rest != "" {
		line, rest, _ = strings.Cut(rest, "\r\n")
		name, content, found := strings.Cut(line, ":")
		if !found || !token(name) {
			return ProtocolError("header line")
		}
		content = strings.Trim(content, " \t")
		if !value(content) {
			return ProtocolError("control character in a header")
		}
		if res.Header.Len() >= maxFields {
			return ProtocolError("more than " + strconv.Itoa(maxFields) + " header fields")
		}
		res.Header.Add(name, content)
		if err := f.see(name, content); err != nil {
			return err
		}
	}
	return res.frame(f, old)
}

// framing is what the header says of the end of the body.
type framing struct {
	length  int64
	chunked bool
	keep    bool
}

func (f *framing) see(name, content string) error {
	switch {
	case exchange.EqualName(name, "Content-Length"):
		n, err := strconv.ParseUint(content, 10, 63)
		if err != nil || content[0] == '+' || f.length >= 0 && f.length != int64(n) {
			return ProtocolError("Content-Length")
		}
		f.length = int64(n)
	case exchange.EqualName(name, "Transfer-Encoding"):
		if f.chunked || !strings.EqualFold(content, "chunked") {
			return ProtocolError("Transfer-Encoding")
		}
		f.chunked = true
	case exchange.EqualName(name, "Connection"):
		for rest := content; rest != ""; {
			var option string
			option, rest, _ = strings.Cut(rest, ",")
			switch option = strings.Trim(option, " \t"); {
			case strings.EqualFold(option, "close"):
				f.keep = false
			case strings.EqualFold(option, "keep-alive"):
				f.keep = true
			}
		}
	}
	return nil
}

// frame decides how the body ends (RFC 9112 §6.3). Two answers to that question are none.
func (res *Response) frame(f framing, old bool) error {
	res.Length, res.close = -1, !f.keep
	switch {
	case f.chunked && (f.length >= 0 || old):
		return ProtocolError("both Transfer-Encoding and Content-Length, or chunks in HTTP/1.0")
	case res.Status < 200 || res.Status == 204 || res.Status == 304:
		res.Framing = NoBody
		if f.chunked {
			return ProtocolError("Transfer-Encoding on an answer without a body")
		}
	case res.req.Method == "HEAD":
		res.Framing, res.Length = NoBody, f.length
	case f.chunked:
		res.Framing = Chunked
	case f.length == 0:
		res.Framing, res.Length = NoBody, 0
	case f.length > 0:
		res.Framing, res.Length, res.left = ByLength, f.length, f.length
	default:
		res.Framing, res.close = UntilClose, true
	}
	res.done = res.Framing == NoBody
	return nil
}
