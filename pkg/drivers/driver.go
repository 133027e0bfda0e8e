// Package drivers speaks to providers of language models: what a driver is, what it is
// given, and how a request is shaped for a provider. Choosing an instance, sending,
// retrying and deciding what a client may see happen elsewhere; drivers translate.
package drivers

import (
	"context"
	"fmt"
	"iter"
	"net/url"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/gosix/gosix/pkg/drivers/convert"
	"github.com/gosix/gosix/pkg/drivers/ledger"
	"github.com/gosix/gosix/pkg/drivers/protocol"
	"github.com/gosix/gosix/pkg/exchange"
	"github.com/gosix/gosix/pkg/jsonedit"
	"github.com/gosix/gosix/pkg/upstream"
)

// Driver is how the requests of a provider look. What comes back is read by its protocol
// alone (package reply). Drivers are immutable and safe for concurrent use.
type Driver interface {
	// Native lists the protocols that the provider speaks itself, the preferred first.
	Native() []protocol.ID
	// Endpoint is where the provider is unless an instance says otherwise. Host is empty
	// when there is no such place.
	Endpoint(Where) Endpoint
	// Request builds the request of one prepared attempt: a pure function of the client's
	// bytes and the instance. It may lie in the call's memory, so that the next one of the
	// same Call replaces it.
	Request(*Call) (*upstream.Request, error)
	// Sign adds what depends on the moment but for the instance's token: signatures. It is
	// called by the function Sign, and may do I/O within ctx.
	Sign(context.Context, *Call, *upstream.Request) error
}

// Endpoint is the place of a provider.
type Endpoint struct {
	Host string // always over TLS, port 443
}

// Where is a place within a provider's cloud; empty members: not configured.
type Where struct{ Project, Region string }

// Outcome is what is known of an answer when it ended.
type Outcome struct {
	Usage Usage
	// FirstToken is when a stream began to say something, or the first byte of a body that
	// is no stream came; zero: it did not.
	FirstToken time.Time
	Stream     bool
	Complete   bool  // ended as its protocol says
	Length     int64 // bytes of the provider's answer
	ToolCalls  bool
	Text       []byte   // what the model said, where Instance.Text asks for it
	RawUsage   [][]byte // as ledger.Ledger.Raw
}

// Broken is an answer that ended before anything of it could go to the client, and what was
// known of it by then.
type Broken struct {
	Outcome Outcome
	Err     error
}

func (e *Broken) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *Broken) Unwrap() error { return e.Err }

// Usage is the provider's count of tokens; zero: not told.
type Usage = ledger.Usage

// Limits bound an answer; zero: none.
type Limits struct {
	Duration time.Duration // of a stream
	Idle     time.Duration // of a stream, from event to event; 0: Timeouts.Read, from read to read
	Bytes    int64         // of the provider's answer, as it came
}

// Instance is a configured account at a provider, compiled. It is immutable.
type Instance struct {
	Name, Provider string
	Driver         Driver
	Where          Where
	// Speak is the protocol in which the provider is asked where there is a way to it;
	// empty: the client's, or the first to which there is one.
	Speak protocol.ID

	Target   *upstream.Target
	Timeouts upstream.Timeouts
	Host     string // of the Host header
	Scheme   string
	Path     string // of the endpoint; empty: the provider's
	// Query is what is sent: configured arguments, then the endpoint's, encoded. Fixed
	// names those that a client's arguments do not override.
	Query string
	Fixed map[string]bool

	Header      []exchange.Field // credentials
	Tokens      Tokens           // gives the bearer token of a request; nil: it has none
	AWS         *AWS             // keys for signatures; nil: none
	Credentials bool             // it has some of its own, so the client's stay here
	Forward     bool             // the client's headers go along
	Usage       bool             // a stream is asked for its usage

	Options   []jsonedit.Edit // members set in the body
	Model     string          // what Options set as the model, decoded; empty: they do not, or it is to be decoded for each call
	MaxTokens []byte          // JSON number for the provider's member; nil: not set
	Bodies    map[protocol.ID][]byte
	Force     bool // Bodies overwrite what the client sent

	Limits Limits
	// KeepAlive is after how much silence before the first token a stream's client gets a
	// comment; 0: never. After a comment there is no way back to another instance.
	KeepAlive time.Duration
	Text      bool // what the model says is kept, for logs

	lines *upstream.Lines // see Fix; nil: none

	// Unreachable is why no call can be made; nil if one can.
	Unreachable error
}

// Fix lays out what is the same in all requests of the instance, whose Host and Header must not
// change after it. It is for the time of loading; without it each request is laid out anew.
func (i *Instance) Fix() {
	// What cannot be sent is an error of each request, as it is without this.
	i.lines, _ = upstream.Lay(i.Host, append(slices.Clone(i.Header), contentType))
}

// contentType is that of all bodies that are sent.
var contentType = exchange.Field{Name: "Content-Type", Value: "application/json"}

// Tokens gives access tokens. Safe for concurrent use.
type Tokens interface {
	// Token returns one that is good now. It may wait for it until ctx ends.
	Token(ctx context.Context) (string, error)
}

// AWS is the keys with which requests to AWS are signed.
type AWS struct {
	AccessKeyID, SecretAccessKey string
	SessionToken                 string // empty: the keys are lasting ones
}

// String names the keys without what is secret of them.
func (a AWS) String() string { return "AWS key " + a.AccessKeyID }

// GoString is String.
func (a AWS) GoString() string { return a.String() }

// Call is one attempt. Whoever makes one sets the first four members; Prepare does the rest.
type Call struct {
	Instance *Instance
	Request  *exchange.Request // the client's
	Body     *jsonedit.Doc     // the client's; once prepared, in the protocol Target
	Protocol protocol.ID       // the client's

	Target protocol.ID    // the provider's
	Answer convert.Answer // converts what comes back; nil: it is passed on as it stands
	Model  string         // that the provider is asked for; empty: none was named
	Stream bool           // a stream is asked for
	// HideUsage: a chat's usage was asked for that the client did not ask for.
	HideUsage bool

	room room
}

// room is the memory in which a call's request is built.
type room struct {
	request  upstream.Request
	header   exchange.Header
	segments [][]byte
	edits    []jsonedit.Edit
}

// Begin makes c another call, in the memory of the last one, whose request is void then.
func (c *Call) Begin(i *Instance, q *exchange.Request, body *jsonedit.Doc, p protocol.ID) {
	c.Instance, c.Request, c.Body, c.Protocol = i, q, body, p
	c.Target, c.Answer, c.Model, c.Stream, c.HideUsage = "", nil, "", false, false
}

// Release lets go of everything but the memory in which requests are built.
func (c *Call) Release() {
	clear(c.room.segments[:cap(c.room.segments)])
	clear(c.room.edits[:cap(c.room.edits)])
	c.room.header.Reset()
	c.room.request = upstream.Request{}
	c.Begin(nil, nil, nil, "")
}

// UnsupportedError is a call in a protocol that the provider does not speak.
type UnsupportedError struct {
	Provider  string
	Protocol  protocol.ID
	Supported []protocol.ID
}

func (e *UnsupportedError) Error() string {
	list := ""
	for i, p := range e.Supported {
		if i > 0 {
			list += ", "
		}
		list += string(p)
	}
	return "provider " + e.Provider + " does not support " + string(e.Protocol) + " protocol (supported: " + list + ")"
}

// SignError is a call that could not be signed.
type SignError struct {
	Text string // for the client
	Err  error
}

func (e *SignError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *SignError) Unwrap() error { return e.Err }

// Sign adds to a request what depends on the moment: the instance's token, and what its
// provider asks for. An error is a *SignError.
func Sign(ctx context.Context, c *Call, r *upstream.Request) error {
	if tokens := c.Instance.Tokens; tokens != nil {
		token, err := tokens.Token(ctx)
		if err != nil {
			// Why is told by the log: what a token endpoint says is not for clients.
			return &SignError{"failed to get gcp access token: failed to get google oauth token", fmt.Errorf("get gcp access token: %w", err)}
		}
		r.Header.Set("Authorization", "Bearer "+token)
	}
	return c.Instance.Driver.Sign(ctx, c, r)
}

// Failure is an answer that cannot go to the client, and what the client gets instead.
type Failure struct {
	Status int
	Body   string // text; empty: none
	Err    error
}

func (e *Failure) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *Failure) Unwrap() error { return e.Err }

// Set is the drivers of a program by provider. It is immutable.
type Set struct {
	byName map[string]Driver
}

// NewSet returns the set of those drivers. It panics at a name that stands for two.
func NewSet(byName ...map[string]Driver) *Set {
	s := &Set{map[string]Driver{}}
	for _, some := range byName {
		for name, d := range some {
			if _, twice := s.byName[name]; twice {
				panic("drivers: NewSet called with two drivers for " + name)
			}
			s.byName[name] = d
		}
	}
	return s
}

// Get returns the driver of a provider; false if there is none.
func (s *Set) Get(provider string) (Driver, bool) {
	d, ok := s.byName[provider]
	return d, ok
}

// Providers lists the names in order.
func (s *Set) Providers() []string {
	names := make([]string, 0, len(s.byName))
	for name := range s.byName {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

// WithClientQuery joins what an instance sends with a client's arguments, which override the
// endpoint's but never the configured ones.
func (i *Instance) WithClientQuery(raw string) string {
	if raw == "" {
		return i.Query
	}
	client, err := url.ParseQuery(raw)
	if err != nil {
		return i.Query
	}
	kept := ""
	add := func(pair string) {
		if kept != "" {
			kept += "&"
		}
		kept += pair
	}
	for pair := range pairs(i.Query) {
		if name := nameOf(pair); i.Fixed[name] || !client.Has(name) {
			add(pair)
		}
	}
	for pair := range pairs(raw) {
		if !i.Fixed[nameOf(pair)] {
			add(pair)
		}
	}
	return kept
}

func pairs(query string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for query != "" {
			var pair string
			pair, query, _ = strings.Cut(query, "&")
			if pair != "" && !yield(pair) {
				return
			}
		}
	}
}

func nameOf(pair string) string {
	name, _, _ := strings.Cut(pair, "=")
	if decoded, err := url.QueryUnescape(name); err == nil {
		return decoded
	}
	return name
}

// kept are the headers of a provider's error that a client needs (spec/00 16).
func kept(name string) bool {
	lower := strings.ToLower(name)
	return lower == "retry-after" || lower == "retry-after-ms" || strings.HasPrefix(lower, "x-ratelimit-") ||
		strings.HasPrefix(lower, "anthropic-ratelimit-") || strings.HasSuffix(lower, "request-id")
}

// ErrorHeader returns what of a provider's error answer a client gets.
func ErrorHeader(h *exchange.Header) (fields []exchange.Field) {
	for _, f := range h.Fields() {
		if kept(f.Name) {
			fields = append(fields, f)
		}
	}
	return fields
}
