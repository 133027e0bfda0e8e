package plugin

import (
	"slices"
	"sync/atomic"

	"github.com/rs/zerolog"

	"github.com/gosix/gosix/pkg/exchange"
)

// Context is what a plugin sees of one request. It belongs to the goroutine that serves
// the request and is void after the log phase.
type Context struct {
	*exchange.Exchange
	Log zerolog.Logger

	// Bypass says that a plugin answers in before_proxy, so the route's upstream is
	// neither chosen nor needed.
	Bypass bool

	// Route names the route in force for this request.
	Route Labels

	// OnHead is the gateway's last word on the head of the answer, after every
	// header_filter: Server, Date. nil for none.
	OnHead func(*Context)

	consumers Consumers
	chain     *Chain // of the route, with what a consumer added
	routeOnly *Chain // as the route has it
	merged    *Chain // memory of chain where a consumer added something; stays for the next request
	global    *Chain
	consumer  *Consumer
	credID    string
	filters   []filterVerdict
	rooms     []any // of those that were asked for, see Room
}

type filterVerdict struct {
	plugin *Compiled
	run    bool
}

// Begin makes c ready for a request: the exchange, the consumers of the snapshot that
// the request is pinned to, and the chain of the global rules (nil: none).
func (c *Context) Begin(x *exchange.Exchange, consumers Consumers, global *Chain, log zerolog.Logger) {
	filters, rooms, merged := c.filters[:0], c.rooms, c.merged
	*c = Context{} // in place: a literal would be made elsewhere and copied
	c.Exchange, c.Log, c.consumers, c.global = x, log, consumers, global
	c.filters, c.rooms, c.merged = filters, rooms, merged
	x.Response.SetHook(c)
}

// SetRoute sets the chain of the matched route.
func (c *Context) SetRoute(chain *Chain, labels Labels) {
	c.chain, c.routeOnly, c.Route = chain, chain, labels
}

// Global is the chain of the global rules, Chain that of the route with what a consumer
// added, Added what only the consumer brought. Each may be nil.
func (c *Context) Global() *Chain { return c.global }

// Chain is the route's chain, with what a consumer added.
func (c *Context) Chain() *Chain { return c.chain }

// Consumers finds consumers by what they present.
func (c *Context) Consumers() Consumers { return c.consumers }

// Consumer is who was identified, nil if nobody.
func (c *Context) Consumer() *Consumer { return c.consumer }

// Attach identifies the request as the consumer's: variables, the headers that tell the
// upstream, and from the next phase on the consumer's plugins (spec/04 §4). It replaces
// what the client itself said in those headers; their spellings with underscores are gone
// before any plugin runs (spec/00 17).
func (c *Context) Attach(id *Identity) {
	consumer := id.Consumer
	c.consumer, c.credID = consumer, id.Credential
	c.Facts.ConsumerName, c.Facts.ConsumerGroupID, c.Facts.CredentialID = consumer.Name, consumer.GroupID, id.Credential
	h := &c.Request.Header
	if slices.ContainsFunc(h.Fields(), tellsConsumer) {
		h.DelFunc(tellsConsumer)
	}
	h.Add(headUsername, consumer.Name)
	if id.Credential != "" {
		h.Add(headCredential, id.Credential)
	}
	if consumer.CustomID != "" {
		h.Add(headCustomID, consumer.CustomID)
	}
}

// What tells upstreams who the consumer is.
const (
	headUsername   = "X-Consumer-Username"
	headCredential = "X-Credential-Identifier"
	headCustomID   = "X-Consumer-Custom-ID"
)

// tellsConsumer reports whether a field is one of those.
func tellsConsumer(f exchange.Field) bool {
	switch len(f.Name) {
	case len(headUsername):
		return exchange.EqualName(f.Name, headUsername)
	case len(headCredential):
		return exchange.EqualName(f.Name, headCredential)
	case len(headCustomID):
		return exchange.EqualName(f.Name, headCustomID)
	}
	return false
}

// Consumer is a consumer as requests see it: immutable.
type Consumer struct {
	Name, GroupID, CustomID string
	Labels                  map[string]string
	// Chain is what consumer and consumer group configure, the consumer winning; nil
	// if nothing.
	Chain *Chain
	// Broken is why no request may be served as this consumer: its group is missing or
	// it names an unknown plugin. Status is then the answer.
	Broken error
	Status int
}

// Identity is a consumer found by what the client presented.
type Identity struct {
	Consumer   *Consumer
	Credential string // id of the credential that matched; empty: the consumer itself
	Conf       []byte // the auth plugin's configuration at the consumer, defaults filled in
}

// Consumers finds consumers. Implementations are immutable and safe for concurrent use.
type Consumers interface {
	// Find returns whom key belongs to under that auth plugin, nil if nobody.
	Find(plugin, key string) *Identity
	// ByName returns the consumer of that name, nil if there is none.
	ByName(name string) *Consumer
}

// Room is memory for what a plugin needs beside a request, so that it allocates nothing in the
// steady state: a T that stays with the Context for the requests after this one. What is in it
// is valid until the access log has its line. No two packages share one:
//
//	var room = plugin.NewRoom[pending]()
type Room[T any] struct{ number int }

// lastRoom numbers the rooms; they are declared as keys are.
var lastRoom atomic.Int64

// NewRoom declares a room.
func NewRoom[T any]() Room[T] { return Room[T]{int(lastRoom.Add(1) - 1)} }

// Get returns the room as the last request left it: at first it is a zero value.
func (r Room[T]) Get(c *Context) *T {
	for len(c.rooms) <= r.number {
		c.rooms = append(c.rooms, nil)
	}
	v, ok := c.rooms[r.number].(*T)
	if !ok {
		v = new(T)
		c.rooms[r.number] = v
	}
	return v
}

// Key is a typed per-request slot, owned by the package that declares it:
//
//	var pendingKey = plugin.NewKey[*pending]("aiproxy.pending")
type Key[T any] struct {
	name string
	slot int
}

// lastSlot numbers the slots; keys are declared while the program's variables are
// initialised, before any request.
var lastSlot atomic.Int64

// NewKey declares a slot. name is for people.
func NewKey[T any](name string) Key[T] {
	return Key[T]{name: name, slot: int(lastSlot.Add(1) - 1)}
}

// Get returns the value that Set stored in this request, else the zero value.
func (k Key[T]) Get(c *Context) T {
	v, _ := (*c.Slot(k.slot)).(T)
	return v
}

// Set stores a value for this request.
func (k Key[T]) Set(c *Context, v T) { *c.Slot(k.slot) = v }

func (k Key[T]) String() string { return k.name }
