package upstream

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"time"
	"unsafe"

	"github.com/gosix/gosix/pkg/exchange"
	"github.com/gosix/gosix/pkg/socket"
)

// outgoing is a request on its way: its head, and the memory that sending it takes.
type outgoing struct {
	buf   []byte      // the head, and room for a small body behind it
	vec   net.Buffers // what is written at once
	rest  net.Buffers // of vec, what is still to be written
	piece *piece      // of a stream; nil: none is sent

	framed []byte // the part of piece that goes on the wire
	left   int64  // of a stream's announced length
	ended  bool   // nothing follows framed
	whole  bool   // nothing follows what is staged
	lent   bool   // a sender uses it
}

// text is memory for the heads of answers. What is used of it is theirs.
type text []byte

// Memory for the heads of answers, in bytes, and from what size on a head has its own: a
// short string that somebody keeps must not keep much more.
const (
	textSlab = 4 << 10
	ownText  = 1 << 10
)

// keep returns a copy of p that nobody changes.
func (t *text) keep(p []byte) string {
	if len(p) >= ownText {
		return string(p)
	}
	if cap(*t)-len(*t) < len(p) {
		*t = make([]byte, 0, textSlab)
	}
	from := len(*t)
	*t = append(*t, p...)
	return view((*t)[from:])
}

var (
	errUnsafe  = errors.New("request has a character where none may be")
	errFraming = errors.New("framing is not the caller's")
	errConnect = errors.New("method CONNECT is not carried")
	errShort   = errors.New("request body ended before its announced length")
	errLong    = errors.New("request body is longer than its announced length")
)

// Lines are the first lines of many heads behind that of the request: Host and some fields,
// checked and laid out once. They are immutable and safe for concurrent use.
type Lines struct {
	host   string
	fields []exchange.Field
	text   string
}

// Lay makes lines. The fields must not change after it; an error is one that Do would return.
func Lay(host string, fields []exchange.Field) (*Lines, error) {
	if !visible(host) {
		return nil, errUnsafe
	}
	b, err := appendFields(appendHost(nil, host), fields)
	if err != nil {
		return nil, err
	}
	return &Lines{host, fields, string(b)}, nil
}

// Fields are the fields without Host. They may be read only.
func (l *Lines) Fields() []exchange.Field { return l.fields }

// lead reports whether the lines are the first ones of a request. That is quick where the
// strings are the same ones.
func (l *Lines) lead(r *Request) bool {
	if l == nil || r.Host != l.host || r.Header == nil || r.Header.Len() < len(l.fields) {
		return false
	}
	for n := range l.fields {
		if l.fields[n] != r.Header.Fields()[n] {
			return false
		}
	}
	return true
}

// assemble writes the head of r. Nothing in it can begin another line or another request:
// what could is refused, not repaired.
func (o *outgoing) assemble(r *Request) (err error) {
	if !token(r.Method) || !visible(r.Path) || r.Path == "" || !value(r.Upgrade) {
		return errUnsafe
	}
	if r.Method == "CONNECT" {
		return errConnect
	}
	b := append(o.buf[:0], r.Method...)
	b = append(append(b, ' '), r.Path...)
	b = append(b, " HTTP/1.1\r\n"...)
	var fields []exchange.Field
	if r.Header != nil {
		fields = r.Header.Fields()
	}
	if r.Lines.lead(r) {
		b, fields = append(b, r.Lines.text...), fields[len(r.Lines.fields):]
	} else if !visible(r.Host) {
		return errUnsafe
	} else {
		b = appendHost(b, r.Host)
	}
	if b, err = appendFields(b, fields); err != nil {
		return err
	}
	switch {
	case r.Stream != nil && r.Length < 0:
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	case r.Stream != nil:
		b = appendLength(b, r.Length)
	case r.Body != nil:
		b = appendLength(b, size(r.Body))
	case r.Method == "POST" || r.Method == "PUT" || r.Method == "PATCH":
		b = appendLength(b, 0)
	}
	switch {
	case r.Upgrade != "":
		b = append(append(append(b, "Connection: Upgrade\r\nUpgrade: "...), r.Upgrade...), '\r', '\n')
	case r.Target.NoKeepAlive:
		b = append(b, "Connection: close\r\n"...)
	}
	o.buf = append(b, '\r', '\n')
	return nil
}

func appendHost(b []byte, host string) []byte {
	return append(append(append(b, "Host: "...), host...), '\r', '\n')
}

func appendFields(b []byte, fields []exchange.Field) ([]byte, error) {
	for n := range fields {
		f := &fields[n]
		if !token(f.Name) || !value(f.Value) {
			return b, fmt.Errorf("header %q: %w", f.Name, errUnsafe)
		}
		if ours(f.Name) {
			return b, fmt.Errorf("header %q: %w", f.Name, errFraming)
		}
		b = append(append(append(append(b, f.Name...), ": "...), f.Value...), "\r\n"...)
	}
	return b, nil
}

func appendLength(b []byte, n int64) []byte {
	return append(strconv.AppendInt(append(b, "Content-Length: "...), n, 10), '\r', '\n')
}

func size(segments [][]byte) (n int64) {
	for _, s := range segments {
		n += int64(len(s))
	}
	return n
}

// ours reports whether a field is the Client's to write.
func ours(name string) bool {
	switch len(name) {
	case 4:
		return exchange.EqualName(name, "Host")
	case 7:
		return exchange.EqualName(name, "Upgrade")
	case 10:
		return exchange.EqualName(name, "Connection")
	case 14:
		return exchange.EqualName(name, "Content-Length")
	case 17:
		return exchange.EqualName(name, "Transfer-Encoding")
	}
	return false
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

func token(s string) bool {
	for i := 0; i < len(s); i++ {
		if !tokens[s[i]] {
			return false
		}
	}
	return len(s) > 0
}

// visible reports whether s has neither spaces nor control characters.
func visible(s string) bool {
	for ; len(s) >= 8; s = s[8:] {
		if below(s, '!') {
			return false
		}
	}
	for i := 0; i < len(s); i++ {
		if s[i] <= ' ' || s[i] == 0x7f {
			return false
		}
	}
	return true
}

// value reports whether s may stand as a header's value.
func value(s string) bool {
	for ; len(s) >= 8; s = s[8:] {
		if below(s, ' ') && !plain(s[:8]) {
			return false
		}
	}
	return plain(s)
}

func plain(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' && s[i] != '\t' || s[i] == 0x7f {
			return false
		}
	}
	return true
}

// below reports whether one of the first eight bytes of s is less than least, or 0x7f. It looks
// at all eight at once: a byte has its high bit set in low if it is less than least, and in del
// if it is 0x7f. Behind one that is, another may seem to be.
func below(s string, least byte) bool {
	const ones = 0x0101010101010101
	w := uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
		uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
	low := (w - uint64(least)*ones) &^ w
	d := w ^ 0x7f*ones
	del := (d - ones) &^ d
	return (low|del)&(0x80*ones) != 0
}

// view is p as a string, for as long as p is not changed.
func view(p []byte) string { return unsafe.String(unsafe.SliceData(p), len(p)) }

// A piece is the memory for a part of a stream, with room for the frame around it.
type piece [32 << 10]byte

const (
	pieceHead = 8 // before a part: its size in hexadecimal digits and the end of that line
	pieceTail = 7 // behind it: the end of its line, and the last chunk
	lastChunk = "0\r\n\r\n"
)

// begin makes ready for the stream of r.
func (o *outgoing) begin(r *Request, p *piece) {
	o.piece, o.left, o.ended, o.framed = p, r.Length, false, nil
}

// next reads the next part of the stream and frames it. With an announced length the
// stream must be exactly that long; without, each part becomes a chunk.
func (o *outgoing) next(r *Request) error {
	space := o.piece[pieceHead : len(o.piece)-pieceTail]
	if r.Length >= 0 && int64(len(space)) > o.left {
		space = space[:o.left+1] // one more, to see what is too long before it is sent
	}
	n, err := 0, error(nil)
	for tries := 0; n == 0 && err == nil; tries++ {
		if tries == 100 {
			return io.ErrNoProgress
		}
		n, err = r.Stream.Read(space)
	}
	if err != nil && err != io.EOF {
		return err
	}
	o.ended = err == io.EOF
	if r.Length >= 0 {
		o.left -= int64(n)
		switch {
		case o.left < 0:
			return errLong
		case o.left > 0 && o.ended:
			return errShort
		}
		o.framed = o.piece[pieceHead : pieceHead+n]
		return nil
	}
	start, end := pieceHead, pieceHead
	if n > 0 {
		start -= 2
		o.piece[start], o.piece[start+1] = '\r', '\n'
		for digits := n; digits > 0; digits >>= 4 {
			start--
			o.piece[start] = "0123456789abcdef"[digits&15]
		}
		end += n
		end += copy(o.piece[end:], "\r\n")
	}
	if o.ended {
		end += copy(o.piece[end:], lastChunk)
	}
	o.framed = o.piece[start:end]
	return nil
}

const (
	// copyLimit is how large a request is copied together; of a larger one the parts are
	// written from where they lie. Over a socket that is one call too.
	copyLimit = 4 << 10
	// patience is how much is written before somebody looks whether the server answers
	// already, in bytes. Who writes is stopped for that after firstGlance, and then less
	// and less often, down to once in glances.
	patience    = 64 << 10
	firstGlance = 10 * time.Millisecond
	glances     = 250 * time.Millisecond
	// recordSize is how much is given to TLS at once.
	recordSize = 16 << 10
)

// answering ends send where the server begins to answer; send goes on from there.
var answering = &Error{Op: OpSend, Err: errAnswering}

var errAnswering = errors.New("server answers before the request was sent")

// stage makes head and body what is sent next: with one write where that is possible. The
// head may have room behind it, which is used.
func (o *outgoing) stage(k *conn, r *Request) {
	segments := r.Body
	var one [1][]byte
	if r.Stream != nil {
		one[0] = o.framed
		segments = one[:]
	}
	total := len(o.buf) + int(size(segments))
	limit := copyLimit
	if k.secure {
		limit = recordSize // two records cost more than copying into one
	}
	o.vec = append(o.vec[:0], o.buf)
	switch {
	case len(segments) == 0:
	case total <= limit:
		whole := o.buf
		for _, s := range segments {
			whole = append(whole, s...)
		}
		if cap(whole) > cap(o.buf) {
			o.buf = whole[:len(o.buf)]
		}
		o.vec[0] = whole
	default:
		o.vec = append(o.vec, segments...)
	}
	o.rest = o.vec
	o.whole = r.Stream == nil || o.ended
	k.watch = k.raw != nil && (total > patience || r.Stream != nil)
}

// send writes what is staged, and what follows of a stream. With k.watch it returns
// answering when bytes come from the server meanwhile; the next call goes on.
func (k *conn) send(r *Request, o *outgoing) *Error {
	k.limit, k.glance = r.Timeouts.Send, firstGlance
	for {
		if err := k.write(o); err == errAnswering {
			return answering
		} else if err != nil {
			return &Error{Op: OpSend, Addr: k.addr, Err: err, Timeout: timedOut(err)}
		}
		if r.Stream == nil || o.ended {
			return nil
		}
		if err := o.next(r); err != nil {
			return &Error{Op: OpSend, Addr: k.addr, Err: err, Client: err}
		}
		if len(o.framed) == 0 {
			continue
		}
		o.vec = append(o.vec[:0], o.framed)
		o.rest = o.vec
		// The last part goes out in any case: looking before it could only spoil the
		// connection.
		if k.watch && !o.ended && k.look() == socket.Pending {
			return answering
		}
	}
}

// write writes o.rest. What it left there when it failed can be written later.
func (k *conn) write(o *outgoing) error {
	switch {
	case k.secure:
		return k.writeRecords(o)
	case len(o.rest) > 0:
		return k.pour(k.Conn, &o.rest)
	}
	return nil
}

// writeRecords writes o.rest over TLS, where a write that was interrupted cannot be
// continued: what is below TLS takes the rest of one (see beneath).
func (k *conn) writeRecords(o *outgoing) error {
	if err := k.beneath.begin(); err != nil {
		return err
	}
	defer k.beneath.end()
	for written := 0; len(o.rest) > 0; {
		segment := o.rest[0]
		if len(segment) == 0 {
			o.rest = o.rest[1:]
			continue
		}
		if written >= patience {
			if written = 0; k.watch && k.look() == socket.Pending {
				return errAnswering
			}
		}
		n, err := k.Write(segment[:min(len(segment), recordSize)])
		o.rest[0] = segment[n:]
		written += n
		switch {
		case err != nil:
			return err
		case k.beneath.held():
			return errAnswering
		}
	}
	return nil
}

// pour writes rest to a connection and leaves in it what was not written. The limit counts from
// the last byte that went out. A writer that watches, or that sends beside an answer, comes
// back to itself now and then.
func (k *conn) pour(to net.Conn, rest *net.Buffers) error {
	last := now() // when a byte went out
	for at := last; ; at = now() {
		limit, stalled := k.limit, time.Duration(at-last)
		s := k.sender.Load()
		if s != nil && s.ending.Load() && (limit == 0 || limit > earlyWait) {
			limit = earlyWait
		}
		step := max(limit-stalled, 0)
		if limit > 0 && step == 0 {
			return os.ErrDeadlineExceeded
		}
		if (k.watch || s != nil) && (limit == 0 || step > k.glance) {
			step = k.glance
			k.glance = min(2*k.glance, glances)
		}
		k.limitWrite(step)
		var n int64
		var err error
		if one := *rest; len(one) == 1 {
			var m int
			m, err = to.Write(one[0])
			n, one[0] = int64(m), one[0][m:]
		} else {
			n, err = rest.WriteTo(to)
		}
		k.wrote = k.wrote || n > 0
		if s != nil {
			s.sent.Add(n)
		}
		switch {
		case err == nil:
			*rest = nil
			return nil
		case !timedOut(err) || k.cancelled.Load():
			return err
		case n > 0:
			last = now()
		}
		if k.watch && k.look() == socket.Pending {
			return errAnswering
		}
	}
}
