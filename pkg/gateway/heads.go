package gateway

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/gosix/gosix/pkg/exchange"
	"github.com/gosix/gosix/pkg/socket"
)

// heads reads along what net/http reads from a connection with HTTP/1. net/http forgives
// what leaves the end of a request open to doubt, and does not tell: of a length beside an
// encoding, of a second length that is equal, of an encoding in HTTP/1.0, of lines that end
// with a bare LF or are folded, and of a Host that differs from the host of the target.
// Whoever stands before this gateway may have read such a request otherwise, so that it is
// to be refused. What net/http refuses by itself is none of the business here.
//
// It also spares net/http the wait for a client that leaves while it is answered: see
// attendance.
//
// Reads come one after the other, but not from one goroutine alone.
type heads struct {
	net.Conn
	token uint64                           // by which it is watched; 0: it is not
	ctx   atomic.Pointer[exchange.Context] // of the request that is being answered
	quiet atomic.Bool                      // all of it was read, and nothing behind it
	fin   atomic.Bool                      // the client has sent its last byte

	broken atomic.Bool // a read for a client that leaves has ended so

	off      atomic.Bool  // nothing is read along any more
	doubtful atomic.Int64 // the number of the request, from 1 on, that is to be refused; 0: none

	mu     sync.Mutex
	number int64 // of the request that is being read
	at     place
	left   int64  // bytes to come of what is no line
	line   []byte // the beginning of a line whose end has not come
	head   headFacts
	probe  socket.Probe
}

// headFacts is what is kept of a head.
type headFacts struct {
	old, chunked        bool // of HTTP/1.0; with an encoding
	lengths             int  // fields
	length              int64
	hosts               int
	host, authority     string // authority: of a target in absolute form
	absolute, malformed bool   // malformed: net/http will refuse it
}

// place is where in a request something stands.
type place uint8

const (
	inRequestLine place = iota
	inFields
	inBody
	inChunkSize
	inChunk
	inTrailer
)

// maxLine is how long a line may be that comes in pieces, in bytes: more than any limit of
// net/http's here.
const maxLine = 2 << 20

// Read implements net.Conn.
func (h *heads) Read(p []byte) (int, error) {
	// Of one byte, and between two requests: net/http waits for the client to leave. No byte
	// and no error end that wait, and nothing else.
	if len(p) == 1 && h.token != 0 && h.between() {
		h.quiet.Store(true)
		if h.fin.Load() {
			h.departed()
		}
		return 0, nil
	}
	n, err := h.Conn.Read(p)
	// Where a part of the next request is there, that wait is a read after all.
	if err != nil && len(p) == 1 && !errors.Is(err, os.ErrDeadlineExceeded) {
		h.broken.Store(true) // first: begin looks in the other order
		if ctx := h.ctx.Load(); ctx != nil {
			ctx.Cancel(context.Canceled)
		}
	}
	if n > 0 {
		h.quiet.Store(false)
		if !h.off.Load() {
			h.follow(p[:n])
		}
	}
	return n, err
}

// between reports whether a request was read to its end, and nothing behind it.
func (h *heads) between() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.at == inRequestLine && len(h.line) == 0 && h.number > 0 && !h.off.Load()
}

// CloseWrite is asked for by net/http.
func (h *heads) CloseWrite() error {
	if c, ok := h.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return errors.ErrUnsupported
}

// NetConn returns the connection beneath, as that of *tls.Conn does.
func (h *heads) NetConn() net.Conn { return h.Conn }

func (h *heads) follow(p []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for len(p) > 0 && !h.off.Load() {
		if h.at == inBody || h.at == inChunk {
			n := min(h.left, int64(len(p)))
			p = p[n:]
			if h.left -= n; h.left > 0 {
				return
			}
			if h.at == inBody {
				h.at = inRequestLine
			} else {
				h.at = inChunkSize
			}
			continue
		}
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			if h.line = append(h.line, p...); len(h.line) > maxLine {
				h.off.Store(true)
			}
			return
		}
		line, here := p[:i+1], p[:i+1]
		p = p[i+1:]
		if len(h.line) > 0 {
			h.line = append(h.line, line...)
			line = h.line
		}
		h.take(line, here)
		h.line = h.line[:0]
	}
}

// doubt ends the reading: the connection ends with this request.
func (h *heads) doubt() {
	h.doubtful.Store(h.number)
	h.off.Store(true)
}

// take reads a line, with its end; here is what of it net/http has not read yet.
func (h *heads) take(line, here []byte) {
	text, crlf := bytes.CutSuffix(line, []byte("\r\n"))
	switch h.at {
	case inRequestLine:
		if line[0] <= '\r' && len(bytes.TrimRight(line, "\r\n")) == 0 {
			return // net/http takes some of them between two requests
		}
		if bytes.HasPrefix(line, []byte("PRI ")) {
			h.off.Store(true) // HTTP/2, or what no route takes
			return
		}
		h.number++
		h.head = headFacts{}
		h.at = inFields
		if !crlf {
			h.doubt()
			return
		}
		h.requestLine(text)
	case inFields:
		switch {
		case !crlf, len(text) > 0 && (text[0] == ' ' || text[0] == '\t'):
			h.doubt()
		case len(text) > 0:
			h.field(text)
		default:
			h.end()
		}
	case inChunkSize:
		h.chunk(text, here)
	case inTrailer:
		if len(text) == 0 {
			h.at = inRequestLine
		}
	}
}

func (h *heads) requestLine(text []byte) {
	_, rest, _ := bytes.Cut(text, []byte{' '})
	target, version, _ := bytes.Cut(rest, []byte{' '})
	h.head.old = string(version) == "HTTP/1.0"
	if len(target) == 0 || target[0] == '/' {
		return
	}
	if _, after, found := bytes.Cut(target, []byte("://")); found {
		if i := bytes.IndexAny(after, "/?#"); i >= 0 {
			after = after[:i]
		}
		h.head.absolute, h.head.authority = true, string(after)
	}
}

func (h *heads) field(text []byte) {
	if value, is := valueOf(text, "Host"); is {
		h.head.hosts++
		if h.head.absolute { // nothing else asks for it
			h.head.host = string(value)
		}
	} else if value, is := valueOf(text, "Content-Length"); is {
		h.head.lengths++
		n, err := strconv.ParseUint(string(value), 10, 63)
		h.head.length, h.head.malformed = int64(n), h.head.malformed || err != nil
	} else if _, is := valueOf(text, "Transfer-Encoding"); is {
		h.head.chunked = true
	}
}

// valueOf returns the value of a field of that name.
func valueOf(text []byte, name string) (value []byte, is bool) {
	n := len(name)
	if len(text) <= n || text[n] != ':' || !exchange.EqualName(string(text[:n]), name) {
		return nil, false
	}
	for value = text[n+1:]; len(value) > 0 && (value[0] == ' ' || value[0] == '\t'); {
		value = value[1:]
	}
	for len(value) > 0 && (value[len(value)-1] == ' ' || value[len(value)-1] == '\t') {
		value = value[:len(value)-1]
	}
	return value, true
}

// end judges a head, and finds where the next one begins.
func (h *heads) end() {
	f := &h.head
	switch {
	case f.lengths > 1, f.chunked && (f.lengths > 0 || f.old),
		f.absolute && (f.hosts != 1 || !strings.EqualFold(f.host, f.authority)):
		h.doubt()
	case f.malformed:
		h.off.Store(true)
	case f.chunked:
		h.at = inChunkSize
	case f.length > 0:
		h.at, h.left = inBody, f.length
	default:
		h.at = inRequestLine
	}
}

// chunk reads the size of a chunk. net/http would take one above all measure, and wait for
// its bytes; it is made to refuse it.
func (h *heads) chunk(text, here []byte) {
	if i := bytes.IndexAny(text, "; \t"); i >= 0 {
		text = text[:i]
	}
	n, err := strconv.ParseUint(string(text), 16, 62)
	switch {
	case errors.Is(err, strconv.ErrRange):
		here[0] = 'x'
		h.off.Store(true)
	case err != nil:
		h.off.Store(true)
	case n == 0:
		h.at = inTrailer
	default:
		h.at, h.left = inChunk, int64(n)+2 // with the end of its line
	}
}
