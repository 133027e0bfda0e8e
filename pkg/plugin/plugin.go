// Package plugin says what a plugin is, in which order plugins run and what they share.
// It knows phases, priorities, `_meta` and consumers. What a route, an upstream or a
// provider is, it does not know: plugins see [Labels] and the exchange.
package plugin

import (
	"encoding/json"
	"time"

	"github.com/rs/zerolog"

	"github.com/gosix/gosix/pkg/exchange"
)

// Definition is what a plugin package exports: everything that is true of the plugin
// whatever its configuration. It is a value; the schemas are not changed.
type Definition struct {
	Name    string
	Version string // "0.1"
	// Priority decides who runs first within a phase: higher runs earlier, equal
	// priorities run by name (spec/04 §9).
	Priority int
	Auth     bool   // identifies a consumer
	Scope    string // "global": only meant for global rules; "": anywhere. Clients show it, nothing else depends on it
	// PreferRoute skips the plugin in a global rule when the route configures it.
	PreferRoute bool

	// Schema describes a configuration, without `_meta`. ConsumerSchema describes one
	// inside a consumer or credential, MetadataSchema the plugin's metadata; nil if the
	// plugin has none.
	Schema, ConsumerSchema, MetadataSchema []byte
	// ConsumerKey is the member of a consumer's configuration by which the consumer is
	// found; no two consumers may share a value. Empty: consumers are not looked up.
	ConsumerKey string
	// Secrets are the members encrypted at rest, as dotted paths; ConsumerSecrets those
	// of a consumer's configuration (spec/01 §8).
	Secrets, ConsumerSecrets []string

	// SchemaFor picks another schema for a configuration by its shape; nil: Schema.
	// It returns nil for Schema. Both generations of ai-proxy need it (spec/00 1, 24).
	SchemaFor func(conf []byte) (schema []byte, err error)

	// Check says what the schema cannot, in the reference's words. conf has been
	// through the schema, defaults filled in. No I/O.
	Check func(conf []byte) error

	// New compiles one configuration, defaults filled in. It does no I/O and starts
	// nothing. nil for plugins that only exist inside consumers.
	New func(*Build) (Phases, error)
}

// Build is all that a configuration may be compiled from.
type Build struct {
	Conf     json.RawMessage // checked, defaults filled in
	Metadata json.RawMessage // of plugin_metadata, nil if none is stored
	Attr     json.RawMessage // of plugin_attr in the program's settings, nil if none
	Digest   string          // of the configuration as stored: the "plugin conf version"
	Parent   Ref             // what carries it
	Labels   Labels
	// Prev is the State of the same plugin of the same parent before this change, if
	// its Digest is equal; else nil.
	Prev any
	// Before is the same whatever the Digest was, for what is known of things that the
	// new configuration still names.
	Before any
	Log    zerolog.Logger
	Clock  Clock
}

// Ref names a stored item.
type Ref struct {
	Kind, ID string // "routes", "1"
	Revision int64
}

// Labels name the configuration for metrics and logs. A consumer's or global rule's
// plugins have empty route and service labels.
type Labels struct {
	RouteID, RouteName, ServiceID, ServiceName string
}

// Clock is the time, so that tests can make it pass.
type Clock interface{ Now() time.Time }

// SystemClock is the real time.
type SystemClock struct{}

// Now returns the current time.
func (SystemClock) Now() time.Time { return time.Now() }

// Phases is a compiled plugin: nil where it does nothing. The functions are called
// concurrently, each with its own Context. A returned error ends the request: an
// *ExitError becomes the answer, anything else a 500 without detail (spec/04 §2).
type Phases struct {
	Rewrite, Access, BeforeProxy func(*Context) error
	HeaderFilter, Log            func(*Context)
	// Stream returns a filter for the answer's body, or nil.
	Stream func(*Context) exchange.StreamFilter
	// State outlives the snapshot: it is handed to the next Build as Prev. Pickers, counters.
	State any
}

// Phase is a step of a request in which plugins run.
type Phase uint8

// The phases, in order (spec/04 §2).
const (
	Rewrite Phase = iota
	Access
	BeforeProxy
	HeaderFilter
	BodyFilter
	Log
	phases
)

var phaseNames = [phases]string{"rewrite", "access", "before_proxy", "header_filter", "body_filter", "log"}

func (p Phase) String() string { return phaseNames[p] }
