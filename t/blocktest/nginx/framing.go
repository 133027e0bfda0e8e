package nginx

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strconv"
	"strings"
)

var errFraming = errors.New("malformed body")

// A framing finds the end of a body in the bytes of a connection without changing any. The
// zero value is a body of no bytes.
type framing struct {
	left    int64 // of the body or of the chunk
	toEnd   bool  // the body ends with its connection
	chunked bool
	state   chunkState
	line    []byte // read so far, of a chunk's size or of a trailer
}

type chunkState int

const (
	chunkSize chunkState = iota
	chunkData
	chunkEnd // the line behind the data
	chunkTrailer
)

func chunkedBody() framing { return framing{chunked: true} }

// done says whether the body is over.
func (f *framing) done() bool { return !f.chunked && !f.toEnd && f.left == 0 }

// take returns how many bytes of p belong to the body.
func (f *framing) take(p []byte) (n int, err error) {
	for n < len(p) && !f.done() {
		rest := p[n:]
		switch {
		case f.toEnd:
			n = len(p)
		case !f.chunked || f.state == chunkData:
			part := min(f.left, int64(len(rest)))
			f.left -= part
			n += int(part)
			if f.chunked && f.left == 0 {
				f.state = chunkEnd
			}
		default:
			at := bytes.IndexByte(rest, '\n')
			if at < 0 {
				f.line = append(f.line, rest...)
				n = len(p)
			} else {
				f.line = append(f.line, rest[:at]...)
				n += at + 1
				err = f.endLine()
			}
			if err == nil && len(f.line) > headLimit {
				err = errFraming
			}
		}
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// endLine goes on behind a line that is no data.
func (f *framing) endLine() error {
	line := strings.TrimSpace(string(f.line))
	f.line = f.line[:0]
	switch f.state {
	case chunkSize:
		size, _, _ := strings.Cut(line, ";")
		n, err := strconv.ParseInt(strings.TrimSpace(size), 16, 64)
		if err != nil || n < 0 {
			return errFraming
		}
		if f.left, f.state = n, chunkData; n == 0 {
			f.state = chunkTrailer
		}
	case chunkEnd:
		if line != "" {
			return errFraming
		}
		f.state = chunkSize
	case chunkTrailer:
		f.chunked = line != ""
	}
	return nil
}

// copyFramed copies a body. Bytes go on as they come. A body that ends with its connection
// ends without an error.
func copyFramed(to io.Writer, from *bufio.Reader, f *framing) error {
	for !f.done() {
		if _, err := from.Peek(1); err != nil {
			switch {
			case err != io.EOF:
			case f.toEnd:
				return nil
			default:
				err = io.ErrUnexpectedEOF
			}
			return err
		}
		p, _ := from.Peek(from.Buffered())
		n, bad := f.take(p)
		if _, err := to.Write(p[:n]); err != nil {
			return &writeError{err}
		}
		_, _ = from.Discard(n)
		if bad != nil {
			return bad
		}
	}
	return nil
}

// A writeError is a failure of the side that is written to.
type writeError struct{ err error }

func (e *writeError) Error() string { return e.err.Error() }
func (e *writeError) Unwrap() error { return e.err }

// peekHead waits for a whole head and returns it, unread; false: none comes, or it is longer
// than what a connection reads ahead.
func peekHead(in *bufio.Reader) ([]byte, bool) {
	for {
		p, _ := in.Peek(in.Buffered())
		start := len(p) - len(bytes.TrimLeft(p, "\r\n"))
		for at := start; ; {
			end := bytes.IndexByte(p[at:], '\n')
			if end < 0 {
				break
			}
			line := bytes.TrimSuffix(p[at:at+end], []byte{'\r'})
			at += end + 1
			if len(line) == 0 {
				return p[:at], true
			}
		}
		if len(p) >= in.Size() {
			return nil, false
		}
		if _, err := in.Peek(len(p) + 1); err != nil {
			return nil, false
		}
	}
}

// headFields are the fields of a head that say how a message goes on.
type headFields struct {
	line      string
	length    int64 // -1: not said
	chunked   bool
	close     bool
	keepAlive bool
	odd       bool // two lengths, or one that is none: nobody can tell where it ends
}

func readHead(head []byte) headFields {
	h := headFields{length: -1}
	lines := strings.Split(strings.TrimLeft(string(head), "\r\n"), "\n")
	h.line = strings.TrimSuffix(lines[0], "\r")
	for _, line := range lines[1:] {
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch strings.ToLower(name) {
		case "content-length":
			n, err := strconv.ParseInt(value, 10, 64)
			h.odd = h.odd || h.length >= 0 || err != nil || n < 0
			h.length = n
		case "transfer-encoding":
			h.odd = h.odd || h.chunked || !strings.EqualFold(value, "chunked")
			h.chunked = true
		case "connection":
			for _, token := range strings.Split(strings.ToLower(value), ",") {
				h.close = h.close || strings.TrimSpace(token) == "close"
				h.keepAlive = h.keepAlive || strings.TrimSpace(token) == "keep-alive"
			}
		}
	}
	h.odd = h.odd || h.chunked && h.length >= 0
	return h
}

// requestBody is how the body of a request ends.
func (h headFields) requestBody() framing {
	switch {
	case h.chunked:
		return chunkedBody()
	case h.length > 0:
		return framing{left: h.length}
	}
	return framing{}
}

// status is the status of an answer, 0 for what is no answer.
func (h headFields) status() int {
	proto, rest, _ := strings.Cut(h.line, " ")
	if !strings.HasPrefix(proto, "HTTP/1.") {
		return 0
	}
	code, _, _ := strings.Cut(rest, " ")
	n, err := strconv.Atoi(code)
	if err != nil || n < 100 || n > 999 {
		return 0
	}
	return n
}

// answerBody is how the body of an answer ends, and whether another answer may follow it.
func (h headFields) answerBody(method string) (body framing, more bool) {
	status := h.status()
	more = !h.close && (strings.HasPrefix(h.line, "HTTP/1.1") || h.keepAlive)
	switch {
	case method == "HEAD" || status == 204 || status == 304:
	case h.chunked:
		body = chunkedBody()
	case h.length >= 0:
		body = framing{left: h.length}
	default:
		return framing{toEnd: true}, false
	}
	return body, more
}
