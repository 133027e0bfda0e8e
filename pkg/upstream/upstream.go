// Package upstream carries a request to a server and its answer back: pooled HTTP/1.1
// connections of our own, TLS, deadlines, strict framing. It knows servers by address;
// which one to take, whether to try again and what the bytes mean, it does not know.
//
// A server may answer while it still reads: the rest of the request is then sent beside the
// answer, by the only goroutine there is.
package upstream

import (
	"crypto/tls"
	"fmt"
	"io"
	"time"

	"github.com/gosix/gosix/pkg/exchange"
)

// A Target is where a request goes. Two targets with equal fields share a pool of
// connections, so everything that tells connections apart is in it: credentials that a
// connection carries (client certificates) as well. It is built at load time and only read.
type Target struct {
	Addr  string      // host:port to dial; names are resolved by the dialer
	TLS   *tls.Config // nil: plain; compared by identity, so build one per configuration
	SNI   string      // server name sent and verified, with TLS
	Class string      // further separates pools, e.g. by credential; "" for none

	MaxIdle     int           // idle connections kept, 0: 320
	IdleTimeout time.Duration // of an idle connection, 0: 60 s
	MaxRequests int           // on one connection, 0: 1000
	NoKeepAlive bool          // one request per connection

	pool *pool // see Client.Bind; nil: it is looked for
}

// Timeouts limit the parts of one try; 0 means none.
type Timeouts struct {
	Connect time.Duration // dialling, with the TLS handshake
	Send    time.Duration // between two successful writes
	Head    time.Duration // from the last byte sent to the head of the answer
	Read    time.Duration // between two reads of the body
}

// A Request is one request to one target. Header carries neither Host, Content-Length,
// Transfer-Encoding, Connection nor Upgrade: those are the Client's, and a request that has
// one is refused, as is one with a control character anywhere in its head. The caller keeps
// everything unchanged until the response is closed.
type Request struct {
	Target   *Target
	Method   string
	Path     string // request target: path and query, as sent on the wire
	Host     string
	Header   *exchange.Header
	Lines    *Lines    // what Host and the first fields of Header look like, written anew if they are others by now; nil: nobody laid them out
	Body     [][]byte  // segments, sent again on a retry by the caller; nil: no body
	Stream   io.Reader // instead of Body: sent once, as it comes; its Read must fail when the context ends; see Interrupter
	Length   int64     // of Stream in bytes, -1: unknown (chunked); more or less is an error
	Upgrade  string    // protocol to upgrade to; the response's Conn is then raw
	Timeouts Timeouts
	// Begin is when the caller began, by time.Now a moment ago; it spares looking at the clock
	// again. Zero: nobody looked.
	Begin time.Time
	// Response is the memory for the answer, nil: new memory. What it was before must be
	// closed, and is gone; strings that were in its header stay.
	Response *Response
}

// A Response is the head of an answer and its body. It must be closed; closing it before
// the end of the body closes the connection, which then is not used again. The header stays
// valid after that. Not safe for concurrent use.
type Response struct {
	Status  int
	Reason  string
	Header  exchange.Header
	Length  int64 // of the body in bytes, -1: chunked or until close
	Framing Framing
	Addr    string    // remote address of the connection
	Reused  bool      // the connection had served before
	Came    time.Time // when the head was there; differences to it are right, whoever sets the clock

	body
}

// Framing is how the end of a body is known.
type Framing uint8

// The framings of an HTTP/1.1 body.
const (
	NoBody Framing = iota
	ByLength
	Chunked
	UntilClose // a cut cannot be told from the end
)

// Op is the part of a try that failed.
type Op string

// The parts of a try.
const (
	OpConnect Op = "connect"
	OpSend    Op = "send"
	OpHead    Op = "head"
	OpBody    Op = "body"
)

// Error is a failed try. What may be tried again follows from its fields.
type Error struct {
	Op      Op
	Addr    string
	Wrote   bool  // a byte of the request may have reached the server
	Timeout bool  // a limit of Timeouts, or the context's deadline, was exceeded
	Refused bool  // connection refused: the server cannot have seen the request
	Client  error // the client's body could not be read; the server is not to blame
	Err     error
}

func (e *Error) Error() string { return fmt.Sprintf("%s %s: %v", e.Op, e.Addr, e.Err) }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }
