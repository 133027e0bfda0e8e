// Package exchange is one HTTP exchange: the request as routes, plugins and drivers
// see it, and the answer on its way to the client. It does not know which engine read
// the request or will write the answer (that is a [Sink]), nor what routes, plugins
// and upstreams are: what those learn about an exchange is kept in [Facts] as plain
// values, for variables, the access log and metrics.
package exchange

import (
	"context"
	"crypto/tls"
	"net/netip"
	"time"
)

// An Exchange is one request and its answer. It is pooled: strings and bytes of the
// request are valid until the log phase has run; whoever keeps a part copies it.
// It belongs to the goroutine that serves the request. The zero value is not usable;
// engines call Reset.
type Exchange struct {
	Request  Request
	Response Response
	Facts    Facts

	// ID identifies the exchange in logs: 32 hexadecimal digits, made by the gateway,
	// never taken from the client.
	ID    string
	Start time.Time
	End   time.Time // when the answer was complete or broken off; zero: it is not

	// Kept is what those who serve exchanges keep from one to the next; engines leave it alone.
	Kept any

	ctx   context.Context
	slots []any
}

// Reset makes x ready for a new request: everything of the last one is gone, buffers
// are kept. ctx ends when the client leaves.
func (x *Exchange) Reset(ctx context.Context, sink Sink) {
	x.Request.reset()
	x.Response.reset(sink)
	x.Facts.reset()
	x.ID, x.Start, x.End, x.ctx = "", time.Now(), time.Time{}, ctx
	clear(x.slots)
}

// Now is what time it is: Start, and what has passed since by the monotonic clock, which is one
// look at a clock where time.Now has two.
func (x *Exchange) Now() time.Time { return x.Start.Add(time.Since(x.Start)) }

// Took is the time from Start to End, or to now.
func (x *Exchange) Took() time.Duration {
	if x.End.IsZero() {
		return time.Since(x.Start)
	}
	return x.End.Sub(x.Start)
}

// ErrEnding is the cause of a context that ended because the process ends: its client is
// still there, and is to be told. It is a context.Canceled as well.
var ErrEnding error = endingError{}

type endingError struct{}

func (endingError) Error() string        { return "the gateway is ending" }
func (endingError) Is(target error) bool { return target == context.Canceled }

// Ending reports whether ctx ended because the process does.
func Ending(ctx context.Context) bool { return context.Cause(ctx) == ErrEnding }

// Context ends when the client has left or the process gives up on the exchange, with the
// cause ErrEnding.
func (x *Exchange) Context() context.Context { return x.ctx }

// SetContext replaces the context, for a deadline that covers the whole exchange.
func (x *Exchange) SetContext(ctx context.Context) { x.ctx = ctx }

// Slot returns the place for the value of per-request slot i. Numbers are given out by
// the package that offers typed slots (plugin.Key); nobody else calls it.
func (x *Exchange) Slot(i int) *any {
	for len(x.slots) <= i {
		x.slots = append(x.slots, nil)
	}
	return &x.slots[i]
}

// Request is what the client asked, as read by the engine.
type Request struct {
	Method, Scheme, Host, Proto string // Host as received, with its port
	Path                        string // decoded and cleaned, as routes match it
	RawQuery                    string // without the question mark
	Target                      string // the request target as received
	Header                      Header
	Body                        Body
	Remote, Local               netip.AddrPort
	RemoteIP, LocalPort         string               // parts of Remote and Local as text, which engines make once a connection
	TLS                         *tls.ConnectionState // nil on plain connections
	ClientVerify                string               // of the certificate that the client showed over TLS: "SUCCESS", "NONE" or "FAILED:reason"; empty on plain connections
	HeadBytes                   int64                // size of request line and header, in bytes, as far as the engine knows
	PostLimit                   int64                // bytes of a body that variables may read; 0: 64 MiB, below 0: no limit
	GraphQLLimit                int64                // bytes of a body that is read as GraphQL; 0: 1 MiB
	GraphQL                     *GraphQL             // nil until package variable was asked for it
	// Misread is why a variable that is read from the body or as GraphQL has no value, or not
	// all of it; the first reason, for the log.
	Misread error
}

// GraphQL is what the first operation of a GraphQL request asks for.
type GraphQL struct {
	Name       string   // empty: it has none
	Operation  string   // "query", "mutation", "subscription"; empty: it could not be read
	RootFields []string // names, not aliases, in order
}

func (r *Request) reset() {
	r.Body.Release()
	fields, body := r.Header.fields[:0], r.Body
	*r = Request{} // in place: a literal would be made elsewhere and copied
	r.Body, r.Header.fields = body, fields
}

// Facts is what the layers above the engine have learnt about an exchange. Empty
// strings mean "not known", which variables and logs print as absent.
type Facts struct {
	RouteID, RouteName     string
	ServiceID, ServiceName string
	MatchedURI             string // the route's pattern as configured
	MatchedHost            string
	Params                 []Param // of a parameter route, for uri_param_*

	ConsumerName, ConsumerGroupID, CredentialID string

	BalancerIP, BalancerPort                  string // an AI instance's name stands in BalancerIP
	UpstreamScheme, UpstreamHost, UpstreamURI string
	UpstreamUnresolvedHost                    string
	Attempts                                  []Attempt

	RequestType string // "traditional_http", "ai_chat", "ai_stream"
	LLM         LLM

	// Failed is why the gateway answered by itself, for the error log; nil if it did not.
	Failed error
}

func (f *Facts) reset() {
	params, attempts := f.Params[:0], f.Attempts[:0]
	*f = Facts{}
	f.Params, f.Attempts, f.RequestType = params, attempts, "traditional_http"
}

// A Param is one captured part of a path.
type Param struct{ Name, Value string }

// An Attempt is one try to get an answer from a server.
type Attempt struct {
	Name     string        // of the AI instance; empty for a plain upstream
	Addr     string        // host:port as dialled
	Status   int           // 0: no status came
	Response time.Duration // until the answer was complete or the attempt failed
	Header   time.Duration // until the head of the answer came
	Length   int64         // body bytes received
	Err      error         // why it failed; nil if a status came
	// End says in a word how an answer ended that began well and was of no use, or of less:
	// "empty", "cut". Empty: it came to its end, or Status says it all.
	End string
}

// LLM is what is known of a call to a language model (spec/06 §A10). Token counts are
// the provider's; 0 means that it named none.
type LLM struct {
	RequestModel, Model                                string
	PromptTokens, CompletionTokens, TotalTokens        int64
	CachedTokens, CacheCreationTokens, ReasoningTokens int64
	FirstToken                                         time.Duration // time to first token
	Stream, HasToolCalls, Partial                      bool
	ToolCount                                          int
	EndUserID                                          string
	// RawUsage is what the provider counted, in its own words: JSON objects in the order in
	// which they came, of a long stream the first and the last. Members of a later one win.
	// nil: it told nothing.
	RawUsage [][]byte

	// What logs may have where it is configured.
	Summarised bool   // the counts above, as one thing
	Messages   []byte // JSON of what the client asked; nil: not kept
	Text       []byte // what the model said; nil: not kept
}
