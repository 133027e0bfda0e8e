package aiproxy

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/gosix/gosix/pkg/drivers/protocol"
	"github.com/gosix/gosix/pkg/exchange"
	"github.com/gosix/gosix/pkg/jsonedit"
	"github.com/gosix/gosix/pkg/plugin"
)

// generationSchema picks the schema by the shape of a configuration (spec/00 1, 24): the
// members model and providers are the seed generation's, provider and instances the current
// one's, and what has none of them is judged as current. old is the seed's schema, first
// what the seed generation finds out before it looks at the schema.
func generationSchema(old []byte, first func(conf []byte) error) func([]byte) ([]byte, error) {
	return func(conf []byte) ([]byte, error) {
		var has struct {
			Model     json.RawMessage `json:"model"`
			Providers json.RawMessage `json:"providers"`
			Provider  json.RawMessage `json:"provider"`
			Instances json.RawMessage `json:"instances"`
		}
		if !bytes.HasPrefix(bytes.TrimSpace(conf), []byte("{")) {
			return nil, nil // no object: any schema says so
		}
		if err := plugin.Decode(conf, &has); err != nil {
			return nil, err
		}
		isSeed := has.Model != nil || has.Providers != nil
		if isSeed && (has.Provider != nil || has.Instances != nil) {
			return nil, errMixed
		}
		if !isSeed {
			return nil, nil
		}
		return old, first(conf)
	}
}

var errMixed = errors.New("model and providers belong to one generation of this plugin, provider and instances to another: " +
	"a configuration has members of one only")

// rules are what differs between the two generations of configuration. Everything else is
// one path.
type rules struct {
	list        string // the member that lists the accounts
	anyEndpoint bool   // an endpoint is not judged when it is configured

	typeHint string // follows an unsupported content type
	badJSON  string // precedes what is wrong with a body
	chatOnly bool   // a request is a chat and must have messages

	forward    bool   // the client's headers go along
	askUsage   bool   // streams are asked for their usage
	idleLimits bool   // keepalive_timeout limits what comes after connecting, not timeout
	plainPort  string // of an endpoint without TLS that names none

	onTransport bool // another instance is tried when there was no answer
	timedOut    int  // status when there was none in time
	exhausted   int  // status when no instance is left to try; 0: that of the last failure
}

// current and seed are the generations (spec/06).
var (
	current = rules{
		list: "instances", typeHint: ", only application/json is supported", badJSON: "could not parse JSON request body: ",
		forward: true, askUsage: true, plainPort: "80", timedOut: http.StatusGatewayTimeout, exhausted: http.StatusBadGateway,
	}
	seed = rules{
		list: "providers", anyEndpoint: true, badJSON: "could not get parse JSON request body: ", chatOnly: true,
		idleLimits: true, plainPort: "443", onTransport: true, timedOut: http.StatusInternalServerError,
	}
)

// conf is what both generations of both plugins are read into.
type conf struct {
	rules       rules
	multi       bool
	Instances   []instance   `json:"-"`
	Balancer    balance      `json:"-"`
	Semantic    semanticConf `json:"-"`
	Passthrough bool         `json:"-"`

	Timeout          int64 `json:"timeout"` // ms
	KeepAlive        bool  `json:"keepalive"`
	KeepAliveTimeout int64 `json:"keepalive_timeout"` // ms
	KeepAlivePool    int   `json:"keepalive_pool"`
	Verify           bool  `json:"ssl_verify"`
	MaxBody          int64 `json:"max_req_body_size"`      // bytes
	MaxDuration      int64 `json:"max_stream_duration_ms"` // ms
	MaxResponse      int64 `json:"max_response_bytes"`     // bytes
	Comments         int64 `json:"sse_keepalive_ms"`       // ms; beyond the reference

	Logging struct {
		Summaries bool `json:"summaries"`
		Payloads  bool `json:"payloads"`
	} `json:"logging"`

	Fallback    fallback `json:"fallback_strategy"`
	Statuses    []int    `json:"fallback_http_statuses"`
	MaxRetries  *int     `json:"max_retries"`
	RetryWithin int64    `json:"retry_on_failure_within_ms"` // ms

	resilience

	warnings []string
}

type balance struct {
	Algorithm string  `json:"algorithm"`
	HashOn    *string `json:"hash_on"`
	Key       *string `json:"key"`
}

// instance is an account as configured. Members of the two generations that mean the same
// are one field.
type instance struct {
	Name     string          `json:"name"`
	Provider string          `json:"provider"`
	Priority int             `json:"priority"`
	Weight   int             `json:"weight"`
	Auth     auth            `json:"auth"`
	Options  json.RawMessage `json:"options"`
	Override override        `json:"override"`
	Where    struct {
		Project string `json:"project_id"`
		Region  string `json:"region"`
		// Protocol is what the provider is asked in; beyond the reference.
		Protocol protocol.ID `json:"protocol"`
	} `json:"provider_conf"`
	Checks    json.RawMessage `json:"checks"`
	Examples  []string        `json:"examples"`
	Threshold *float64        `json:"threshold"`

	model string // set in every body; seed
}

type auth struct {
	Header ordered         `json:"header"`
	Query  ordered         `json:"query"`
	GCP    json.RawMessage `json:"gcp"`
	AWS    json.RawMessage `json:"aws"`
}

type override struct {
	Endpoint   string `json:"endpoint"`
	LLMOptions struct {
		MaxTokens json.RawMessage `json:"max_tokens"`
	} `json:"llm_options"`
	RequestBody map[protocol.ID]json.RawMessage `json:"request_body"`
	Force       bool                            `json:"request_body_force_override"`
}

// ordered is an object of strings in its order.
type ordered []exchange.Field

// UnmarshalJSON reads an object of strings.
func (o *ordered) UnmarshalJSON(p []byte) error {
	*o = nil
	if len(p) == 0 || p[0] != '{' {
		return nil // an empty list stands for an empty object
	}
	return jsonedit.Members(p, func(name string, raw []byte, kind jsonedit.Kind) error {
		if kind == jsonedit.String {
			value, err := jsonedit.Unquote(raw)
			if err != nil {
				return err
			}
			*o = append(*o, exchange.Field{Name: name, Value: value})
		}
		return nil
	})
}

// fallback is the strategy in both its forms.
type fallback struct{ rate, server, quota bool }

// UnmarshalJSON reads one word or a list of them.
func (f *fallback) UnmarshalJSON(p []byte) error {
	var words []string
	var word string
	if plugin.Decode(p, &word) == nil {
		words = []string{word}
	} else if err := plugin.Decode(p, &words); err != nil {
		return nil // an empty object stands for an empty list
	}
	for _, w := range words {
		f.rate = f.rate || w == "http_429"
		f.server = f.server || w == "http_5xx"
		f.quota = f.quota || w == "rate_limiting" || w == "instance_health_and_rate_limiting"
	}
	return nil
}

// readSingle reads a configuration of ai-proxy.
func readSingle(raw []byte) (*conf, error) {
	c := &conf{rules: current}
	if err := plugin.Decode(raw, c); err != nil {
		return nil, err
	}
	var own struct {
		instance
		Model *struct {
			Provider string          `json:"provider"`
			Name     string          `json:"name"`
			Options  json.RawMessage `json:"options"`
		} `json:"model"`
		Passthrough bool `json:"passthrough"`
	}
	if err := plugin.Decode(raw, &own); err != nil {
		return nil, err
	}
	i := own.instance
	if m := own.Model; m != nil {
		c.rules, c.Passthrough = seed, own.Passthrough
		i.Provider, i.Options, i.model = m.Provider, m.Options, m.Name
	}
	i.Name = "ai-proxy-" + i.Provider
	c.Instances = []instance{i}
	c.resilience = resilience{FirstToken: c.FirstToken, Idle: c.Idle} // with one instance there is no more to it
	if c.rules.chatOnly {
		c.resilience = resilience{}
	}
	return c, nil
}

// readMulti reads a configuration of ai-proxy-multi.
func readMulti(raw []byte) (*conf, error) {
	c := &conf{rules: current, multi: true}
	if err := plugin.Decode(raw, c); err != nil {
		return nil, err
	}
	var own struct {
		Instances []instance `json:"instances"`
		Providers []struct {
			instance
			Model string `json:"model"`
		} `json:"providers"`
		Balancer    balance      `json:"balancer"`
		Semantic    semanticConf `json:"semantic_opts"`
		Passthrough bool         `json:"passthrough"`
	}
	if err := plugin.Decode(raw, &own); err != nil {
		return nil, err
	}
	c.Instances, c.Balancer, c.Semantic = own.Instances, own.Balancer, own.Semantic
	if own.Providers != nil {
		c.rules, c.Passthrough, c.resilience = seed, own.Passthrough, resilience{}
		for _, p := range own.Providers {
			i := p.instance
			i.Provider, i.model = i.Name, p.Model
			c.Instances = append(c.Instances, i)
		}
	}
	return c, nil
}
