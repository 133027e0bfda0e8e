package http1

import (
	"net/http"
	"strings"
	"unsafe"

	"github.com/gosix/gosix/pkg/exchange"
)

// Request is what the head of a request says. Its strings are parts of the head's bytes.
type Request struct {
	Method, Target, Proto string
	Host                  string
	Length                int64 // of the body in bytes, -1: Chunked
	Chunked               bool
	Old                   bool // HTTP/1.0
	Upgrade               bool // another protocol is asked for, if only by name
	Close                 bool // the client wants the connection to end with the answer
	KeepAlive             bool // a client of HTTP/1.0 wants it kept
	Expect                Expectation
}

// Expectation is what a request says in Expect.
type Expectation uint8

// What may be expected.
const (
	ExpectNothing  Expectation = iota
	ExpectContinue             // to be asked for the body
	ExpectUnknown              // something that nobody knows
)

// A Refusal is a request that cannot be served: its connection ends with the answer.
type Refusal struct {
	Status int
	Reason string
}

func (r *Refusal) Error() string { return r.Reason }

func malformed(reason string) error { return &Refusal{http.StatusBadRequest, reason} }

var (
	errRequestLine = malformed("malformed request line")
	errTarget      = malformed("malformed request target")
	errVersion     = &Refusal{http.StatusHTTPVersionNotSupported, "unsupported protocol version"}
	errHeaderLine  = malformed("malformed header line")
	errValue       = malformed("control character in a header")
	errNoHost      = malformed("missing required Host header")
	errManyHosts   = malformed("too many Host headers")
	errTwoHosts    = malformed("target and Host header differ")
	errHost        = malformed("malformed Host header")
	errRequestSize = malformed("malformed Content-Length")
	errBoth        = malformed("both Transfer-Encoding and Content-Length")
	errOldChunks   = malformed("Transfer-Encoding in HTTP/1.0")
	errEncoding    = &Refusal{http.StatusNotImplemented, "Unsupported transfer encoding"}
)

// text makes a string of bytes that nobody changes while it is used.
func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// ParseLine reads the request line at the beginning of head, which has its end, and returns
// its size with that. The error is a *Refusal.
func (r *Request) ParseLine(head []byte) (int, error) {
	i := tokenEnd(head, 0)
	if i == 0 || i == len(head) || head[i] != ' ' {
		return 0, errRequestLine
	}
	j := visibleEnd(head, i+1)
	if j == i+1 || j == len(head) || head[j] != ' ' {
		return 0, errRequestLine
	}
	p := head[j+1:]
	const version = len("HTTP/1.1")
	if len(p) < version+2 || p[version] != '\r' || p[version+1] != '\n' || string(p[:5]) != "HTTP/" ||
		p[6] != '.' || p[5] < '0' || p[5] > '9' || p[7] < '0' || p[7] > '9' {
		return 0, errRequestLine
	}
	r.Method, r.Target, r.Proto = text(head[:i]), text(head[i+1:j]), text(p[:version])
	if p[5] != '1' {
		return 0, errVersion
	}
	r.Old = p[7] == '0'
	return j + 1 + version + 2, nil
}

// Parse reads a head with its empty line, as Scan found it, and adds its fields to h. The
// error is a *Refusal.
func (r *Request) Parse(head []byte, h *exchange.Header) error {
	n, err := r.parse(head, h)
	if err == nil && n != len(head) {
		err = errHeaderLine
	}
	return err
}

// ParseWhole reads the head at the beginning of p in one pass, without a Scan, and returns its
// size with its empty line. 0: its end is not there, or it cannot be served, which is for Scan
// and Parse to say.
func (r *Request) ParseWhole(p []byte, h *exchange.Header) int {
	n, err := r.parse(p, h)
	if err != nil {
		return 0
	}
	return n
}

func (r *Request) parse(p []byte, h *exchange.Header) (int, error) {
	*r = Request{}
	at, err := r.ParseLine(p)
	if err != nil {
		return 0, err
	}
	f := fields{r: r, length: -1}
	for {
		// A folded line begins with white space and has no name, so it is refused too.
		colon := tokenEnd(p, at)
		if colon == len(p) || p[colon] != ':' || colon == at {
			if colon == at && at+1 < len(p) && p[at] == '\r' && p[at+1] == '\n' {
				return at + 2, f.judge()
			}
			return 0, errHeaderLine
		}
		begin, end := colon+1, valueEnd(p, colon+1)
		switch {
		case end+1 >= len(p) || p[end] == '\n':
			return 0, errHeaderLine
		case p[end] != '\r' || p[end+1] != '\n':
			return 0, errValue
		}
		name, next := text(p[at:colon]), end+2
		for begin < end && (p[begin] == ' ' || p[begin] == '\t') {
			begin++
		}
		for end > begin && (p[end-1] == ' ' || p[end-1] == '\t') {
			end--
		}
		value := text(p[begin:end])
		h.Add(name, value)
		if err := f.see(name, value); err != nil {
			return 0, err
		}
		at = next
	}
}

// fields is what the header says of the framing, the connection and the host.
type fields struct {
	r      *Request
	length int64 // -1: not said
	hosts  int
	close  bool
	keep   bool
}

func (f *fields) see(name, value string) error {
	switch len(name) {
	case 4:
		if exchange.EqualName(name, "Host") {
			f.r.Host = value
			f.hosts++
		}
	case 6:
		if exchange.EqualName(name, "Expect") && value != "" && f.r.Expect != ExpectContinue {
			f.r.Expect = ExpectUnknown
			if strings.EqualFold(value, "100-continue") {
				f.r.Expect = ExpectContinue
			}
		}
	case 7:
		f.r.Upgrade = f.r.Upgrade || exchange.EqualName(name, "Upgrade")
	case 10:
		if exchange.EqualName(name, "Connection") {
			closes, keeps := Options(value)
			f.close, f.keep = f.close || closes, f.keep || keeps
		}
	case 14:
		if !exchange.EqualName(name, "Content-Length") {
			break
		}
		n, err := Length(value)
		if err != nil || f.length >= 0 {
			return errRequestSize
		}
		f.length = n
	case 17:
		if !exchange.EqualName(name, "Transfer-Encoding") {
			break
		}
		if f.r.Chunked || !strings.EqualFold(value, "chunked") {
			return errEncoding
		}
		f.r.Chunked = true
	}
	return nil
}

// judge decides what the fields mean together.
func (f *fields) judge() error {
	r := f.r
	switch {
	case r.Chunked && f.length >= 0:
		return errBoth
	case r.Chunked && r.Old:
		return errOldChunks
	case f.hosts > 1:
		return errManyHosts
	case f.hosts == 0 && !r.Old && r.Method != http.MethodConnect:
		return errNoHost
	case !host(r.Host):
		return errHost
	}
	if err := r.judgeTarget(); err != nil {
		return err
	}
	switch {
	case r.Chunked:
		r.Length = -1
	case f.length > 0:
		r.Length = f.length
	}
	r.KeepAlive = r.Old && f.keep && !f.close
	r.Close = f.close || r.Old && !f.keep
	if r.Old && r.Expect == ExpectContinue {
		r.Expect = ExpectNothing
	}
	return nil
}

// judgeTarget reads the forms of a target (RFC 9112 §3.2). An absolute one names the host that
// the header names: who reads only one of them is to read the same.
func (r *Request) judgeTarget() error {
	t := r.Target
	if t[0] == '/' || t == "*" || r.Method == http.MethodConnect {
		return nil
	}
	scheme, rest, found := strings.Cut(t, "://")
	if !found || !schemeName(scheme) {
		return errTarget
	}
	authority := rest
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		authority = rest[:i]
	}
	if authority == "" || !host(authority) {
		return errTarget
	}
	if !strings.EqualFold(authority, r.Host) {
		return errTwoHosts
	}
	return nil
}

// schemeName reports whether s is one (RFC 3986 §3.1).
func schemeName(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i] | 0x20
		if 'a' <= c && c <= 'z' || i > 0 && ('0' <= s[i] && s[i] <= '9' || s[i] == '+' || s[i] == '-' || s[i] == '.') {
			continue
		}
		return false
	}
	return s != ""
}
