package aiproxy

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/gosix/gosix/pkg/balancer"
	"github.com/gosix/gosix/pkg/drivers"
	"github.com/gosix/gosix/pkg/drivers/protocol"
	"github.com/gosix/gosix/pkg/exchange"
	"github.com/gosix/gosix/pkg/jsonedit"
	"github.com/gosix/gosix/pkg/plugin"
	"github.com/gosix/gosix/pkg/schema"
	"github.com/gosix/gosix/pkg/upstream"
	"github.com/gosix/gosix/pkg/variable"
)

// generationSchema picks the schema by the shape of a configuration (spec/00 1, 24): the
// members model and providers are the seed generation's, provider and instances the current
// one's, and what has none of them is judged as current. first is what the seed generation
// finds out before it looks at the schema.
func generationSchema(seed []byte, first func(conf []byte) error) func([]byte) ([]byte, error) {
	return func(conf []byte) ([]byte, error) {
		var has struct {
			Model     json.RawMessage `json:"model"`
			Providers json.RawMessage `json:"providers"`
			Provider  json.RawMessage `json:"provider"`
			Instances json.RawMessage `json:"instances"`
		}
		if json.Unmarshal(conf, &has) != nil {
			return nil, nil // no object: any schema says so
		}
		old := has.Model != nil || has.Providers != nil
		if old && (has.Provider != nil || has.Instances != nil) {
			return nil, errMixed
		}
		if !old {
			return nil, nil
		}
		return seed, first(conf)
	}
}

var errMixed = errors.New("model and providers belong to one generation of this plugin, provider and instances to another: " +
	"a configuration has members of one only")

// conf is what both generations of both plugins are read into.
type conf struct {
	seed        bool
	multi       bool
	Instances   []instance
	Balancer    balance
	Passthrough bool

	Timeout          int64 `json:"timeout"` // ms
	KeepAlive        bool  `json:"keepalive"`
	KeepAliveTimeout int64 `json:"keepalive_timeout"` // ms
	KeepAlivePool    int   `json:"keepalive_pool"`
	Verify           bool  `json:"ssl_verify"`
	MaxBody          int64 `json:"max_req_body_size"`      // bytes
	MaxDuration      int64 `json:"max_stream_duration_ms"` // ms
	MaxResponse      int64 `json:"max_response_bytes"`     // bytes

	Logging struct {
		Summaries bool `json:"summaries"`
		Payloads  bool `json:"payloads"`
	} `json:"logging"`

	Fallback    fallback `json:"fallback_strategy"`
	Statuses    []int    `json:"fallback_http_statuses"`
	MaxRetries  *int     `json:"max_retries"`
	RetryWithin int64    `json:"retry_on_failure_within_ms"` // ms

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
	} `json:"provider_conf"`
	Checks   json.RawMessage `json:"checks"`
	Examples []string        `json:"examples"`

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
type fallback struct{ rate, server bool }

// UnmarshalJSON reads one word or a list of them.
func (f *fallback) UnmarshalJSON(p []byte) error {
	var words []string
	var word string
	if json.Unmarshal(p, &word) == nil {
		words = []string{word}
	} else if err := json.Unmarshal(p, &words); err != nil {
		return nil // an empty object stands for an empty list
	}
	for _, w := range words {
		f.rate = f.rate || w == "http_429"
		f.server = f.server || w == "http_5xx"
	}
	return nil
}

// readSingle reads a configuration of ai-proxy.
func readSingle(raw []byte) (*conf, error) {
	c := &conf{}
	if err := json.Unmarshal(raw, c); err != nil {
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
	if err := json.Unmarshal(raw, &own); err != nil {
		return nil, err
	}
	i := own.instance
	if m := own.Model; m != nil {
		c.seed, c.Passthrough = true, own.Passthrough
		i.Provider, i.Options, i.model = m.Provider, m.Options, m.Name
	}
	i.Name = "ai-proxy-" + i.Provider
	c.Instances = []instance{i}
	return c, nil
}

// readMulti reads a configuration of ai-proxy-multi.
func readMulti(raw []byte) (*conf, error) {
	c := &conf{multi: true}
	if err := json.Unmarshal(raw, c); err != nil {
		return nil, err
	}
	var own struct {
		Instances []instance `json:"instances"`
		Providers []struct {
			instance
			Model string `json:"model"`
		} `json:"providers"`
		Balancer    balance `json:"balancer"`
		Passthrough bool    `json:"passthrough"`
	}
	if err := json.Unmarshal(raw, &own); err != nil {
		return nil, err
	}
	c.Instances, c.Balancer = own.Instances, own.Balancer
	if own.Providers != nil {
		c.seed, c.Passthrough = true, own.Passthrough
		for _, p := range own.Providers {
			i := p.instance
			i.Provider, i.model = i.Name, p.Model
			c.Instances = append(c.Instances, i)
		}
	}
	return c, nil
}

// hashKeys are the patterns of hash keys (spec/05 §1).
var hashKeys = map[string]*regexp.Regexp{
	"vars": regexp.MustCompile(`^((uri|server_name|server_addr|request_uri|remote_port|remote_addr|query_string|host|hostname|mqtt_client_id)` +
		`|arg_[0-9a-zA-z_-]+)$`),
	"header": regexp.MustCompile(`^[a-zA-Z0-9-_]+$`),
	"cookie": regexp.MustCompile(`^[a-zA-Z0-9-_]+$`),
}

// check says what the schema cannot of a balancer, in either generation.
func (b balance) check() error {
	if b.Algorithm != "chash" {
		return nil
	}
	switch {
	case b.HashOn == nil:
		return errors.New("must configure `hash_on` when balancer algorithm is chash")
	case *b.HashOn == "consumer":
		return nil
	case b.Key == nil:
		return errors.New("must configure `hash_key` when balancer `hash_on` is not set to cookie")
	case *b.HashOn == "vars_combinations":
		return nil
	}
	pattern := hashKeys[*b.HashOn]
	if pattern == nil {
		return errors.New("type is chash, err: invalid hash_on type " + *b.HashOn)
	}
	if !pattern.MatchString(*b.Key) {
		return fmt.Errorf("invalid configuration: failed to match pattern %q with %q", pattern, *b.Key)
	}
	return nil
}

// seedSingle and seedMulti are what the seed generation says before it looks at the schema.
// What is of the wrong type they leave to it.
func seedSingle(raw []byte) error {
	var c struct {
		Model struct {
			Provider *string `json:"provider"`
		} `json:"model"`
	}
	_ = json.Unmarshal(raw, &c)
	return seedProvider(c.Model.Provider, "openai", "deepseek", "openai-compatible")
}

func seedMulti(raw []byte) error {
	var c struct {
		Providers []struct {
			Name *string `json:"name"`
		} `json:"providers"`
		Balancer balance `json:"balancer"`
	}
	_ = json.Unmarshal(raw, &c)
	for _, p := range c.Providers {
		if err := seedProvider(p.Name, "openai", "deepseek"); err != nil {
			return err
		}
	}
	return c.Balancer.check()
}

func seedProvider(name *string, known ...string) error {
	if name == nil || slices.Contains(known, *name) {
		return nil
	}
	//lint:ignore ST1005 the reference's text
	return fmt.Errorf("provider: %s is not supported.", *name)
}

func (d Deps) checkSingle(raw []byte) error {
	c, err := readSingle(raw)
	if err != nil {
		return err
	}
	if err := c.Instances[0].check(); err != nil {
		return err
	}
	_, err = d.compile("ai-proxy", c)
	return err
}

func (d Deps) checkMulti(raw []byte) error {
	c, err := readMulti(raw)
	if err != nil {
		return err
	}
	list := "instances"
	if c.seed {
		list = "providers"
	}
	places := map[string]int{}
	for n := range c.Instances {
		i := &c.Instances[n]
		if first, twice := places[i.Name]; twice {
			return fmt.Errorf("duplicate instance name '%s' at %s[%d] and %s[%d]", i.Name, list, first, list, n+1)
		}
		places[i.Name] = n + 1
	}
	for n := range c.Instances {
		i := &c.Instances[n]
		// The seed generation takes any endpoint.
		if i.Override.Endpoint != "" && !c.seed && !endpointShape.MatchString(i.Override.Endpoint) {
			return errors.New("invalid endpoint")
		}
		if err := i.check(); err != nil {
			return fmt.Errorf("instance '%s': %w", i.Name, err)
		}
	}
	if c.Balancer.Algorithm == "semantic" {
		if err := checkSemantic(raw, c); err != nil {
			return err
		}
	}
	if err := c.Balancer.check(); err != nil {
		return err
	}
	_, err = d.compile("ai-proxy-multi", c)
	return err
}

// endpointShape is what an endpoint must look like (spec/06 §A2).
var endpointShape = regexp.MustCompile(`^(https?)://([^:/]+):?(\d*)/?.*$`)

// check says what the schema cannot of one account.
func (i *instance) check() error {
	if len(i.Auth.GCP) > 0 {
		var gcp struct {
			Account string `json:"service_account_json"`
		}
		if json.Unmarshal(i.Auth.GCP, &gcp) == nil && gcp.Account != "" && !strings.HasPrefix(gcp.Account, "$") {
			if err := jsonedit.Check([]byte(gcp.Account), jsonedit.Options{}); err != nil {
				return fmt.Errorf("invalid gcp service_account_json: %w", err)
			}
		}
	}
	switch i.Provider {
	case "vertex-ai":
		if (i.Where.Project == "" || i.Where.Region == "") && i.Override.Endpoint == "" {
			return errors.New("vertex-ai requires either provider_conf (project_id + region) or override.endpoint")
		}
	case "bedrock":
		if i.Where.Region == "" {
			return errors.New("bedrock requires provider_conf.region")
		}
		if len(i.Auth.AWS) == 0 {
			return errors.New("bedrock requires auth.aws")
		}
	}
	return nil
}

func checkSemantic(raw []byte, c *conf) error {
	var own struct {
		Semantic *struct {
			Embeddings struct {
				Provider string `json:"provider"`
				Endpoint string `json:"endpoint"`
			} `json:"embeddings"`
			Fallback string `json:"fallback"`
		} `json:"semantic_opts"`
	}
	if err := json.Unmarshal(raw, &own); err != nil {
		return err
	}
	s := own.Semantic
	if s == nil {
		return errors.New("must configure `semantic_opts.embeddings` when balancer algorithm is semantic")
	}
	e := s.Embeddings
	switch {
	case e.Endpoint != "" && !endpointShape.MatchString(e.Endpoint):
		return errors.New("invalid `semantic_opts.embeddings.endpoint`")
	case e.Provider == "azure-openai" && e.Endpoint == "":
		return errors.New("must configure `semantic_opts.embeddings.endpoint` when embeddings provider is azure-openai")
	case e.Provider == "azure-openai":
		if u, err := url.Parse(e.Endpoint); err != nil || strings.Trim(u.Path, "/") == "" {
			//lint:ignore ST1005 the reference's text
			return errors.New("`semantic_opts.embeddings.endpoint` for azure-openai must include the full deployment path, e.g. " +
				"https://{resource}.openai.azure.com/openai/deployments/{deployment}/embeddings?api-version=...")
		}
	}
	found := s.Fallback == ""
	for _, i := range c.Instances {
		if len(i.Examples) == 0 {
			return fmt.Errorf("instance '%s': must configure non-empty `examples` for the semantic algorithm", i.Name)
		}
		found = found || i.Name == s.Fallback
	}
	if !found {
		return fmt.Errorf("`semantic_opts.fallback` names unknown instance '%s'", s.Fallback)
	}
	return nil
}

// proxy is a compiled configuration.
type proxy struct {
	name        string
	seed        bool
	passthrough bool
	instances   []*drivers.Instance
	targets     []balancer.Target
	balancer    balance
	hash        func(*exchange.Exchange) string
	maxBody     int64
	depth       int
	client      *upstream.Client

	retries     int // how many more attempts; -1: as many as there are instances
	onTransport bool
	onRate      bool
	onServer    bool
	statuses    map[int]bool
	within      time.Duration

	state *state
}

// state outlives the configuration's neighbours: it is handed to the next build.
type state struct{ picker balancer.Picker }

const (
	defaultMaxBody  = 64 << 20
	defaultDuration = 30 * time.Minute // of a stream (spec/00 27)
	defaultResponse = 256 << 20        // bytes of an answer
)

// compile makes the one internal form of both generations. What differs between them is
// fields of it.
func (d Deps) compile(name string, c *conf) (*proxy, error) {
	p := &proxy{
		name: name, seed: c.seed, passthrough: c.Passthrough, balancer: c.Balancer, client: d.Client, depth: d.Depth,
		maxBody: c.MaxBody, retries: -1, within: ms(c.RetryWithin), statuses: map[int]bool{},
	}
	if p.maxBody == 0 {
		p.maxBody = d.MaxBody
	}
	if p.maxBody == 0 {
		p.maxBody = defaultMaxBody
	}
	if c.Balancer.Algorithm == "semantic" {
		return nil, errors.New("balancer algorithm semantic is not supported by this version")
	}
	p.onTransport = c.seed
	p.onRate, p.onServer = c.Fallback.rate, c.Fallback.server
	for _, s := range c.Statuses {
		p.statuses[s] = true
	}
	if c.MaxRetries != nil {
		p.retries = *c.MaxRetries
	}
	for n := range c.Instances {
		i := &c.Instances[n]
		compiled, err := d.instance(c, i)
		if err != nil {
			if c.multi {
				return nil, fmt.Errorf("instance '%s': %w", i.Name, err)
			}
			return nil, err
		}
		p.instances = append(p.instances, compiled)
		p.targets = append(p.targets, balancer.Target{ID: i.Name, Weight: i.Weight, Priority: i.Priority})
	}
	c.warn(p.instances)
	p.hash = hashKey(c.Balancer)
	return p, nil
}

// warn collects what is accepted and has no effect, or not the one it seems to have.
func (c *conf) warn(compiled []*drivers.Instance) {
	add := func(text string) { c.warnings = append(c.warnings, text) }
	for n, i := range c.Instances {
		if err := compiled[n].Unreachable; err != nil {
			add("instance " + i.Name + " cannot be called: " + err.Error())
		}
		if len(i.Checks) > 0 {
			add("instance " + i.Name + ": health checks are not run by this version, the instance always counts as healthy")
		}
		for _, f := range slices.Concat(i.Auth.Header, i.Auth.Query) {
			if schema.IsReference(f.Value) {
				add("instance " + i.Name + ": secret references in auth are not looked up by this version")
				break
			}
		}
	}
	if c.Logging.Summaries || c.Logging.Payloads {
		add("logging.summaries and logging.payloads have no effect in this version")
	}
}

// hashKey reads the text by which chash places a request; the client's address where it
// has none (spec/05 §4.2).
func hashKey(b balance) func(*exchange.Exchange) string {
	if b.Algorithm != "chash" {
		return nil
	}
	address, _ := variable.Compile("remote_addr")
	key := ""
	if b.Key != nil {
		key = *b.Key
	}
	if *b.HashOn == "vars_combinations" {
		t := variable.CompileTemplate(key)
		return func(x *exchange.Exchange) string {
			if text, resolved := t.Resolve(x); resolved > 0 {
				return text
			}
			return address(x).String()
		}
	}
	name := map[string]string{
		"vars": key, "header": "http_" + strings.ToLower(key), "cookie": "cookie_" + key, "consumer": "consumer_name",
	}[*b.HashOn]
	get, known := variable.Compile(name)
	if !known {
		get = address
	}
	return func(x *exchange.Exchange) string {
		if v := get(x); !v.IsNil() && v.String() != "" {
			return v.String()
		}
		return address(x).String()
	}
}

func ms(n int64) time.Duration { return time.Duration(n) * time.Millisecond }

// instance compiles one account.
func (d Deps) instance(c *conf, i *instance) (*drivers.Instance, error) {
	driver, known := d.Drivers.Get(i.Provider)
	if !known {
		return nil, fmt.Errorf("provider %s is not supported by this version", i.Provider)
	}
	if len(i.Auth.GCP) > 2 || len(i.Auth.AWS) > 2 {
		return nil, errors.New("auth.gcp and auth.aws are not supported by this version")
	}
	out := &drivers.Instance{
		Name: i.Name, Provider: i.Provider, Driver: driver,
		Forward: !c.seed, Usage: !c.seed, Force: i.Override.Force,
		Limits: drivers.Limits{Duration: defaultDuration, Bytes: defaultResponse},
	}
	if c.MaxDuration > 0 {
		out.Limits.Duration = ms(c.MaxDuration)
	}
	if c.MaxResponse > 0 {
		out.Limits.Bytes = c.MaxResponse
	}
	timeout, idle := ms(c.Timeout), ms(c.KeepAliveTimeout)
	out.Timeouts = upstream.Timeouts{Connect: timeout, Send: timeout, Head: timeout, Read: timeout}
	if c.seed {
		out.Timeouts = upstream.Timeouts{Connect: timeout, Send: idle, Head: idle, Read: idle}
	}
	if err := place(out, c, i); err != nil {
		return nil, err
	}
	return out, members(out, i)
}

// place compiles where an account is: the endpoint, its arguments, its connections.
func place(out *drivers.Instance, c *conf, i *instance) error {
	out.Scheme = "https"
	host, port := out.Driver.Endpoint().Host, "443"
	rawQuery := ""
	if i.Override.Endpoint != "" {
		u, err := url.Parse(i.Override.Endpoint)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			// ai-proxy accepts any text (spec/06 §A2); the call fails then.
			out.Unreachable = fmt.Errorf("override.endpoint %q is no address", i.Override.Endpoint)
			u = &url.URL{Scheme: "http"}
		}
		out.Scheme, host, port = u.Scheme, u.Hostname(), u.Port()
		out.Path, rawQuery = u.EscapedPath(), u.RawQuery
		switch {
		case port != "":
		case c.seed || out.Scheme == "https":
			port = "443"
		default:
			port = "80"
		}
	}
	if host == "" && out.Unreachable == nil {
		out.Unreachable = fmt.Errorf("provider %s has no address of its own and override.endpoint names none", i.Provider)
	}
	out.Host = host
	if strings.Contains(host, ":") {
		out.Host = "[" + host + "]"
	}
	if out.Scheme == "https" && port != "443" || out.Scheme == "http" && port != "80" {
		out.Host += ":" + port
	}
	out.Target = &upstream.Target{
		Addr: net.JoinHostPort(host, port), NoKeepAlive: !c.KeepAlive, MaxIdle: c.KeepAlivePool, IdleTimeout: ms(c.KeepAliveTimeout),
	}
	if out.Scheme == "https" {
		out.Target.SNI = host
		out.Target.TLS = verified
		if !c.Verify {
			out.Target.TLS = unverified
		}
	}
	arguments(out, i.Auth.Query, rawQuery)
	credentials(out, &i.Auth)
	return nil
}

// Connections are pooled by the identity of their TLS configuration, so all instances share
// these two; nothing changes them.
var (
	verified   = &tls.Config{MinVersion: tls.VersionTLS12}
	unverified = &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: true} //nolint:gosec // ssl_verify is the user's choice
)

// credentials compiles the configured headers. An empty value is none: it is not sent, and
// does not keep the client's own from the provider (spec/00 4).
func credentials(out *drivers.Instance, a *auth) {
	for _, f := range a.Header {
		switch {
		case f.Value == "":
			continue
		case exchange.EqualName(f.Name, "Host"):
			out.Host = f.Value
		case framing(f.Name):
			continue // what is sent decides these
		default:
			out.Header = append(out.Header, f)
		}
		out.Credentials = true
	}
	for _, f := range a.Query {
		out.Credentials = out.Credentials || f.Value != ""
	}
}

// framing names the headers that follow from the body, which the driver makes.
func framing(name string) bool {
	return exchange.HopByHop(name) && !exchange.EqualName(name, "Proxy-Authorization") ||
		exchange.EqualName(name, "Content-Length") || exchange.EqualName(name, "Content-Type")
}

// arguments joins the configured arguments with the endpoint's, which win on equal names.
func arguments(out *drivers.Instance, configured ordered, endpoint string) {
	theirs, _ := url.ParseQuery(endpoint)
	out.Fixed = map[string]bool{}
	var list []string
	for _, f := range configured {
		out.Fixed[f.Name] = true
		if !theirs.Has(f.Name) {
			list = append(list, escape(f.Name)+"="+escape(f.Value))
		}
	}
	if endpoint != "" {
		list = append(list, endpoint)
	}
	out.Query = strings.Join(list, "&")
}

// escape encodes a part of a query; a space becomes "%20", as the reference has it.
func escape(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }

// members compiles what is set in every body.
func members(out *drivers.Instance, i *instance) error {
	if i.model != "" {
		out.Options = append(out.Options, jsonedit.Edit{Name: "model", Value: jsonedit.AppendQuote(nil, i.model)})
	}
	if options := bytes.TrimSpace(i.Options); len(options) > 0 && options[0] == '{' {
		err := jsonedit.Members(options, func(name string, raw []byte, _ jsonedit.Kind) error {
			value := append([]byte(nil), raw...)
			for n := range out.Options {
				if out.Options[n].Name == name {
					out.Options[n].Value = value
					return nil
				}
			}
			out.Options = append(out.Options, jsonedit.Edit{Name: name, Value: value})
			return nil
		})
		if err != nil {
			return err
		}
	}
	out.MaxTokens = i.Override.LLMOptions.MaxTokens
	for id, body := range i.Override.RequestBody {
		if out.Bodies == nil {
			out.Bodies = map[protocol.ID][]byte{}
		}
		if b := bytes.TrimSpace(body); len(b) > 0 && b[0] == '{' {
			out.Bodies[id] = b
		}
	}
	return nil
}

// picker finds what spreads the attempts: that of the same configuration before this
// change, one that was kept when its configuration went away, or a new one.
func (p *proxy) picker(b *plugin.Build, cache *balancer.Cache) error {
	if before, ok := b.Prev.(*state); ok && before != nil {
		p.state = before
		return nil
	}
	if len(p.instances) < 2 {
		return nil
	}
	key := b.Parent.Kind + "/" + b.Parent.ID + "#" + p.name + "@" + b.Digest
	if cache != nil {
		if kept, ok := cache.Get(key); ok {
			p.state = &state{kept}
			return nil
		}
	}
	algorithm := p.balancer.Algorithm
	if algorithm == "" {
		return nil // selection fails then, as in the reference
	}
	made, err := balancer.New(balancer.Config{Algorithm: algorithm, Targets: p.targets}, nil)
	if err != nil {
		return err
	}
	if cache != nil {
		cache.Put(key, made)
	}
	p.state = &state{made}
	return nil
}
