package upstream

import (
	"bytes"
	"errors"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/gosix/gosix/pkg/exchange"
	"github.com/gosix/gosix/pkg/http1"
)

// ProtocolError is an answer that is not HTTP/1.1, or leaves its end open to doubt. The
// connection is given up with it.
type ProtocolError string

func (e ProtocolError) Error() string { return "malformed response: " + string(e) }

// maxInformational is how many answers below 200 may come before the final one.
const maxInformational = 8

// glimpse is finalHead for what is there already. It does not wait; false means that the
// head of a final answer is not there yet, and that reading goes on later.
func (res *Response) glimpse() (bool, error) {
	k := res.conn
	k.limitRead(0)
	k.eager = true
	err := res.finalHead()
	k.eager = false
	if err != nil && timedOut(err) {
		return false, nil
	}
	return err == nil, err
}

// finalHead reads up to the head of the final answer.
func (res *Response) finalHead() error {
	c := res.client
	for ; res.informed < maxInformational; res.informed++ {
		raw, err := res.conn.head(c.o.HeaderBytes)
		if err != nil {
			return err
		}
		t := c.texts.Get().(*text)
		kept := t.keep(raw)
		c.texts.Put(t)
		if err := res.parse(kept, c.o.HeaderFields); err != nil {
			return err
		}
		switch {
		case res.Status == 101:
			return res.switched()
		case res.Status >= 200:
			return nil
		}
	}
	return ProtocolError("more than " + strconv.Itoa(maxInformational) + " informational answers")
}

// switched judges an answer 101: it must be to the protocol that was asked for. Whatever
// becomes of it, the connection serves no further request.
func (res *Response) switched() error {
	res.last = true
	asked, got := res.req.Upgrade, res.Header.Get("Upgrade")
	for asked != "" {
		var one string
		one, asked, _ = strings.Cut(asked, ",")
		if got != "" && strings.EqualFold(trim(one), got) {
			return nil
		}
	}
	return ProtocolError("protocol switched without being asked")
}

const protocolName = "HTTP/1."

// head reads until the empty line and returns the head with it. The bytes are the
// connection's. What cannot be an answer is refused as soon as that shows: who sends
// something else may never send the empty line.
func (k *conn) head(limit int) ([]byte, error) {
	line, looked := 0, 0 // where the current line begins, and what was searched, from k.r
	for {
		pending := k.buf[k.r:k.w]
		if n := min(len(pending), len(protocolName)); string(pending[:n]) != protocolName[:n] {
			return nil, ProtocolError("it does not begin with " + protocolName)
		}
		for {
			i := bytes.IndexByte(pending[looked:], '\n')
			if i < 0 {
				looked = len(pending)
				break
			}
			end := looked + i
			if end == line || pending[end-1] != '\r' {
				return nil, errBareLineFeed
			}
			if end >= limit {
				return nil, tooLarge(limit)
			}
			if end-1 == line {
				k.r += end + 1
				return pending[:end+1], nil
			}
			line, looked = end+1, end+1
		}
		if len(pending) >= limit {
			return nil, tooLarge(limit)
		}
		if err := k.fill(); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF // also when nothing came at all: it is no end
			}
			return nil, err
		}
	}
}

func tooLarge(limit int) error {
	return ProtocolError("head is larger than " + strconv.Itoa(limit) + " bytes")
}

const errBareLineFeed = ProtocolError("line without carriage return")

// parse reads a head, with its empty line. All names and values are parts of text.
func (res *Response) parse(text string, maxFields int) error {
	line, rest, ended := cutLine(text)
	if !ended || len(line) < 12 || line[7] != '0' && line[7] != '1' || line[8] != ' ' || len(line) > 12 && line[12] != ' ' || !value(line) {
		return ProtocolError("status line")
	}
	old := line[7] == '0'
	status := 0
	for i := 9; i < 12; i++ {
		c := line[i]
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
	f := framing{length: -1, old: old}
	for rest != "\r\n" {
		// A folded line begins with white space and has no name, so it is refused too.
		colon := 0
		for colon < len(rest) && tokens[rest[colon]] {
			colon++
		}
		if colon == 0 || colon == len(rest) || rest[colon] != ':' {
			return ProtocolError("header line")
		}
		name := rest[:colon]
		if line, rest, ended = cutLine(rest[colon+1:]); !ended || !value(line) {
			return ProtocolError("control character in a header")
		}
		if res.Header.Len() >= maxFields {
			return ProtocolError("more than " + strconv.Itoa(maxFields) + " header fields")
		}
		content := trim(line)
		res.Header.Add(name, content)
		if err := f.see(name, content); err != nil {
			return err
		}
	}
	return res.frame(&f)
}

// cutLine cuts a line from text. ended is false when text has no end of a line, or a
// carriage return that ends none.
func cutLine(text string) (line, rest string, ended bool) {
	i := strings.IndexByte(text, '\r')
	if i < 0 || i+1 == len(text) || text[i+1] != '\n' {
		return "", "", false
	}
	return text[:i], text[i+2:], true
}

// trim removes white space around the value of a header.
func trim(s string) string {
	for s != "" && (s[0] == ' ' || s[0] == '\t') {
		s = s[1:]
	}
	for s != "" && (s[len(s)-1] == ' ' || s[len(s)-1] == '\t') {
		s = s[:len(s)-1]
	}
	return s
}

// framing is what the header says of the end of the body and of the connection.
type framing struct {
	length      int64 // -1: not said
	chunked     bool
	old         bool // HTTP/1.0
	close, keep bool
	idle        time.Duration // how long the server keeps the connection; 0: not said
}

func (f *framing) see(name, content string) error {
	switch len(name) {
	case 10:
		if exchange.EqualName(name, "Connection") {
			f.options(content)
		} else if exchange.EqualName(name, "Keep-Alive") {
			f.keepAlive(content)
		}
	case 14:
		if !exchange.EqualName(name, "Content-Length") {
			break
		}
		n, err := contentLength(content)
		if err != nil || f.length >= 0 && f.length != n {
			return ProtocolError("Content-Length")
		}
		f.length = n
	case 17:
		if !exchange.EqualName(name, "Transfer-Encoding") {
			break
		}
		if f.chunked || !strings.EqualFold(content, "chunked") {
			return ProtocolError("Transfer-Encoding")
		}
		f.chunked = true
	}
	return nil
}

var errNumber = errors.New("not a number")

// contentLength reads digits and nothing else: no sign, no list.
func contentLength(s string) (n int64, err error) {
	if s == "" || len(s) > 18 {
		return 0, errNumber
	}
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return 0, errNumber
		}
		n = n*10 + int64(s[i]-'0')
	}
	return n, nil
}

func (f *framing) options(content string) {
	closes, keeps := http1.Options(content)
	f.close, f.keep = f.close || closes, f.keep || keeps
}

// keepAlive reads how long the server keeps an idle connection. Ours must end before, or
// a request meets a connection that is just being closed.
func (f *framing) keepAlive(content string) {
	for rest := content; rest != ""; {
		var option string
		option, rest, _ = strings.Cut(rest, ",")
		name, seconds, _ := strings.Cut(trim(option), "=")
		if !strings.EqualFold(name, "timeout") {
			continue
		}
		if n, err := strconv.Atoi(seconds); err == nil && 0 <= n && n <= 1<<20 {
			f.idle = max(1, time.Duration(n-1)*time.Second)
		}
	}
}

// frame decides how the body ends (RFC 9112 §6.3). Two answers to that question are none.
func (res *Response) frame(f *framing) error {
	res.Length, res.last, res.idle = -1, f.close || f.old && !f.keep, f.idle
	switch {
	case f.chunked && f.length >= 0:
		return ProtocolError("both Transfer-Encoding and Content-Length")
	case f.chunked && f.old:
		return ProtocolError("Transfer-Encoding in HTTP/1.0")
	case res.Status < 200 || res.Status == 204 || res.Status == 304:
		res.Framing = NoBody
		if f.chunked && res.Status != 304 {
			return ProtocolError("Transfer-Encoding on an answer without a body")
		}
		// Who announces a body where none may be might send it as well.
		res.last = res.last || f.chunked || f.length > 0 && res.Status != 304
	case res.req.Method == "HEAD":
		res.Framing, res.Length = NoBody, f.length
	case f.chunked:
		res.Framing = Chunked
	case f.length == 0:
		res.Framing, res.Length = NoBody, 0
	case f.length > 0:
		res.Framing, res.Length, res.left = ByLength, f.length, f.length
	default:
		res.Framing, res.last = UntilClose, true
	}
	res.done = res.Framing == NoBody
	return nil
}
