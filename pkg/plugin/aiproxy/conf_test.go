package aiproxy

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gosix/gosix/pkg/drivers"
	"github.com/gosix/gosix/pkg/exchange"
	"github.com/gosix/gosix/pkg/plugin"
)

// judge returns what the registry says of a configuration, without the words that are the
// same for every plugin; "" if it is accepted.
func judge(r *rig, name, conf string) string {
	err := r.registry.Check(plugin.Source{Name: name, Conf: []byte(conf), Parent: plugin.Ref{Kind: "routes", ID: "1"}})
	if err == nil {
		return ""
	}
	text, ok := strings.CutPrefix(err.Error(), "failed to check the configuration of plugin "+name+" err: ")
	if !ok {
		r.t.Errorf("got %q without the usual beginning", err)
	}
	return text
}

func TestSingleConfigurations(t *testing.T) {
	tests := map[string]struct{ conf, want string }{
		"the least":                      {`{"provider":"openai","auth":{}}`, ""},
		"unknown members":                {`{"provider":"openai","auth":{},"flock":1}`, ""},
		"an endpoint that is no address": {`{"provider":"openai","auth":{},"override":{"endpoint":"not a url"}}`, ""},
		"integers written as fractions":  {`{"provider":"openai","auth":{},"timeout":30000.0,"keepalive_pool":3e1}`, ""},
		"empty lists for objects":        {`{"provider":"openai","auth":[],"provider_conf":[],"override":{"llm_options":[],"request_body":[]}}`, ""},
		"members in another letter case": {`{"provider":"openai","auth":{},"Model":{"name":"x"},"Instances":5,"TIMEOUT":"x"}`, ""},
		"a member twice":                 {`{"provider":"openai","provider":"deepseek","auth":{}}`, `jsontext: duplicate object member name "provider"`},
		"nothing":                        {`{}`, `property "provider" is required`},
		"no provider":                    {`{"auth":{}}`, `property "provider" is required`},
		"no auth":                        {`{"provider":"openai"}`, `property "auth" is required`},
		"an unknown provider":            {`{"provider":"oracle","auth":{}}`, `property "provider" validation failed: matches none of the enum values`},
		"a provider that is a number":    {`{"provider":1,"auth":{}}`, `property "provider" validation failed: wrong type: expected string, got number`},
		"an extra member in auth": {
			`{"provider":"openai","auth":{"foo":1}}`, `property "auth" validation failed: additional properties forbidden, found foo`,
		},
		"a header that is a number": {
			`{"provider":"openai","auth":{"header":{"a":1}}}`,
			`property "auth" validation failed: failed to validate header (matching "header"): failed to validate a (matching "^[a-zA-Z0-9._-]+$"): wrong type: expected string, got number`,
		},
		"an extra model option": {
			`{"provider":"openai","auth":{},"override":{"llm_options":{"temperature":1}}}`,
			`property "override" validation failed: property "llm_options" validation failed: additional properties forbidden, found temperature`,
		},
		"max_tokens 0": {
			`{"provider":"openai","auth":{},"override":{"llm_options":{"max_tokens":0}}}`,
			`property "override" validation failed: property "llm_options" validation failed: property "max_tokens" validation failed: expected 0 to be at least 1`,
		},
		"a body for an unknown protocol": {
			`{"provider":"openai","auth":{},"override":{"request_body":{"x":{}}}}`,
			`property "override" validation failed: property "request_body" validation failed: additional properties forbidden, found x`,
		},
		"timeout 0":      {`{"provider":"openai","auth":{},"timeout":0}`, `property "timeout" validation failed: expected 0 to be at least 1`},
		"timeout 600001": {`{"provider":"openai","auth":{},"timeout":600001}`, `property "timeout" validation failed: expected 600001 to be at most 600000`},
		"a keep-alive of 999 ms": {
			`{"provider":"openai","auth":{},"keepalive_timeout":999}`, `property "keepalive_timeout" validation failed: expected 999 to be at least 1000`,
		},
		"options that are a string": {
			`{"provider":"openai","auth":{},"options":"x"}`, `property "options" validation failed: wrong type: expected object, got string`,
		},
		"a GCP account that is no JSON": {
			`{"provider":"vertex-ai","auth":{"gcp":{"service_account_json":"nope"}}}`,
			`invalid gcp service_account_json: Expected value but found invalid token at character 1`,
		},
		"a GCP account that is a secret": {
			`{"provider":"vertex-ai","auth":{"gcp":{"service_account_json":"$secret://vault/1/a/b"}},"override":{"endpoint":"https://x"}}`, "",
		},
		"vertex-ai without a place": {
			`{"provider":"vertex-ai","auth":{},"provider_conf":{"region":"r"}}`,
			`vertex-ai requires either provider_conf (project_id + region) or override.endpoint`,
		},
		"bedrock without a region":     {`{"provider":"bedrock","auth":{}}`, `bedrock requires provider_conf.region`},
		"bedrock without credentials":  {`{"provider":"bedrock","auth":{},"provider_conf":{"region":"r"}}`, `bedrock requires auth.aws`},
		"AWS credentials without both": {`{"provider":"openai","auth":{"aws":{"access_key_id":"a"}}}`, `property "auth" validation failed: failed to validate aws (matching "aws"): property "secret_access_key" is required`},
		"bedrock that is complete": {
			`{"provider":"bedrock","auth":{"aws":{"access_key_id":"a","secret_access_key":"b"}},"provider_conf":{"region":"r"}}`, "",
		},
		"AWS credentials for another provider": {
			`{"provider":"openai","auth":{"aws":{"access_key_id":"a","secret_access_key":"b"}}}`, "",
		},
		"vertex-ai that is complete": {`{"provider":"vertex-ai","auth":{"gcp":{}},"provider_conf":{"project_id":"p","region":"r"}}`, ""},
		"a token that is kept no time": {
			`{"provider":"openai","auth":{"gcp":{"max_ttl":0}}}`,
			`property "auth" validation failed: failed to validate gcp (matching "gcp"): property "max_ttl" validation failed: expected 0 to be at least 1`,
		},
		"a token that is renewed after its end": {
			`{"provider":"openai","auth":{"gcp":{"expire_early_secs":-1}}}`,
			`property "auth" validation failed: failed to validate gcp (matching "gcp"): property "expire_early_secs" validation failed: expected -1 to be at least 0`,
		},
		"a protocol that the provider speaks": {`{"provider":"gemini","auth":{},"provider_conf":{"protocol":"gemini-generate"}}`, ""},
		"a protocol that it does not speak": {
			`{"provider":"deepseek","auth":{},"provider_conf":{"protocol":"openai-responses"}}`,
			`provider_conf.protocol: provider deepseek does not speak openai-responses (it speaks openai-chat)`,
		},
		"a protocol of nobody": {
			`{"provider":"gemini","auth":{},"provider_conf":{"protocol":"telepathy"}}`,
			`property "provider_conf" validation failed: property "protocol" validation failed: matches none of the enum values`,
		},

		"seed: the least":              {`{"model":{"provider":"openai","name":"gpt-4"},"auth":{}}`, ""},
		"seed: an openai-compatible":   {`{"model":{"provider":"openai-compatible","name":"x"},"auth":{},"override":{"endpoint":"http://a/b"}}`, ""},
		"seed: no auth":                {`{"model":{"provider":"openai","name":"gpt-4"}}`, `property "auth" is required`},
		"seed: no model name":          {`{"model":{"provider":"openai"},"auth":{}}`, `property "model" validation failed: property "name" is required`},
		"seed: no provider":            {`{"model":{"name":"gpt-4"},"auth":{}}`, `property "model" validation failed: property "provider" is required`},
		"seed: an unknown provider":    {`{"model":{"provider":"some-unique","name":"m"}}`, `provider: some-unique is not supported.`},
		"seed: a current provider":     {`{"model":{"provider":"gemini","name":"m"},"auth":{}}`, `provider: gemini is not supported.`},
		"seed: timeout 60001":          {`{"model":{"provider":"openai","name":"m"},"auth":{},"timeout":60001}`, `property "timeout" validation failed: expected 60001 to be at most 60000`},
		"seed: a temperature of 6":     {`{"model":{"provider":"openai","name":"m","options":{"temperature":6}},"auth":{}}`, `property "model" validation failed: property "options" validation failed: property "temperature" validation failed: expected 6 to be at most 5`},
		"seed: the members of multi":   {`{"providers":[],"auth":{}}`, `property "model" is required`},
		"a mixture":                    {`{"model":{"provider":"openai","name":"m"},"provider":"openai","auth":{}}`, errMixed.Error()},
		"a mixture of the two plugins": {`{"model":{"provider":"openai","name":"m"},"instances":[],"auth":{}}`, errMixed.Error()},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := judge(newRig(t), "ai-proxy", tt.conf); got != tt.want {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
		})
	}
}

func TestMultiConfigurations(t *testing.T) {
	kiwi, emu := member("kiwi", "a:1", ""), member("emu", "b:1", "")
	current := func(more string, members ...string) string {
		if members == nil {
			members = []string{kiwi, emu}
		}
		return multi("instances", more, members...)
	}
	seed := func(more string, members ...string) string { return multi("providers", more, members...) }
	oa, ds := seedMember("openai", "a:1", ""), seedMember("deepseek", "a:1", "")
	semantic := func(embeddings string) string {
		return `,"balancer":{"algorithm":"semantic"},"semantic_opts":{"embeddings":` + embeddings + `}`
	}
	withExamples := []string{member("kiwi", "a:1", `,"examples":["x"]`), member("emu", "b:1", `,"examples":["y"]`)}
	const pattern = `"^((uri|server_name|server_addr|request_uri|remote_port|remote_addr|query_string|host|hostname|mqtt_client_id)|arg_[0-9a-zA-z_-]+)$"`
	tests := map[string]struct{ conf, want string }{
		"two instances":                    {current(""), ""},
		"one instance":                     {current("", kiwi), ""},
		"a strategy that is a word":        {current(`,"fallback_strategy":"http_429"`), ""},
		"a strategy that is an empty list": {current(`,"fallback_strategy":[]`), ""},
		"nothing":                          {`{}`, `property "instances" is required`},
		"no instances":                     {`{"instances":[]}`, `property "instances" validation failed: expect array to have at least 1 items`},
		"no weight": {
			`{"instances":[{"name":"a","provider":"openai","auth":{}}]}`,
			`property "instances" validation failed: failed to validate item 1: property "weight" is required`,
		},
		"no name": {
			`{"instances":[{"provider":"openai","auth":{},"weight":1}]}`,
			`property "instances" validation failed: failed to validate item 1: property "name" is required`,
		},
		"a negative weight": {
			`{"instances":[{"name":"a","provider":"openai","auth":{},"weight":-1}]}`,
			`property "instances" validation failed: failed to validate item 1: property "weight" validation failed: expected -1 to be at least 0`,
		},
		"checks without active": {
			current("", member("kiwi", "a:1", `,"checks":{}`)),
			`property "instances" validation failed: failed to validate item 1: property "checks" validation failed: property "active" is required`,
		},
		"a threshold of 1.5": {
			current("", member("kiwi", "a:1", `,"threshold":1.5`)),
			`property "instances" validation failed: failed to validate item 1: property "threshold" validation failed: expected 1.5 to be at most 1`,
		},
		"equal names": {
			current("", member("same-name", "a:1", ""), emu, member("same-name", "b:1", "")),
			`duplicate instance name 'same-name' at instances[1] and instances[3]`,
		},
		"an endpoint without a scheme": {
			`{"instances":[{"name":"a","provider":"openai","auth":{},"weight":1,"override":{"endpoint":"a:80"}}]}`, `invalid endpoint`,
		},
		"vertex-ai without a place": {
			`{"instances":[{"name":"kiwi","provider":"vertex-ai","auth":{},"weight":1}]}`,
			`instance 'kiwi': vertex-ai requires either provider_conf (project_id + region) or override.endpoint`,
		},
		"bedrock without a region": {
			`{"instances":[{"name":"kiwi","provider":"bedrock","auth":{},"weight":1}]}`, `instance 'kiwi': bedrock requires provider_conf.region`,
		},
		"bedrock without credentials": {
			`{"instances":[{"name":"kiwi","provider":"bedrock","auth":{},"weight":1,"provider_conf":{"region":"r"}}]}`,
			`instance 'kiwi': bedrock requires auth.aws`,
		},
		"vertex-ai at an endpoint": {
			`{"instances":[{"name":"kiwi","provider":"vertex-ai","auth":{},"weight":1,"override":{"endpoint":"https://x/"}}]}`, "",
		},
		"a protocol that the provider does not speak": {
			`{"instances":[{"name":"kiwi","provider":"gemini","auth":{},"weight":1,"provider_conf":{"protocol":"anthropic-messages"}}]}`,
			`instance 'kiwi': provider_conf.protocol: provider gemini does not speak anthropic-messages (it speaks openai-chat, gemini-generate)`,
		},
		"an unknown algorithm": {
			current(`,"balancer":{"algorithm":"random"}`),
			`property "balancer" validation failed: property "algorithm" validation failed: matches none of the enum values`,
		},
		"the fewest under way":     {current(`,"balancer":{"algorithm":"least_conn"}`), ""},
		"the fastest of late":      {current(`,"balancer":{"algorithm":"ewma"}`), ""},
		"resilience with defaults": {current(`,"backoff":{},"cooldown":{},"ejection":{},"breaker":{},"retry_budget":{},"hedge":{"after":"p95"},"deadline_ms":1,"first_token_timeout_ms":1,"idle_timeout_ms":1`), ""},
		"a hedge after a time":     {current(`,"hedge":{"after":250}`), ""},
		"a hedge after nothing": {
			current(`,"hedge":{}`), `property "hedge" validation failed: property "after" is required`,
		},
		"a hedge after too few": {
			current(`,"hedge":{"after":"p40"}`), `property "hedge" validation failed: property "after" validation failed: object matches none of the required`,
		},
		"a hedge for all and more": {
			current(`,"hedge":{"after":1,"max_percent":101}`), `property "hedge" validation failed: property "max_percent" validation failed: expected 101 to be at most 100`,
		},
		"a budget above all": {
			current(`,"retry_budget":{"percent":101}`), `property "retry_budget" validation failed: property "percent" validation failed: expected 101 to be at most 100`,
		},
		"a misspelt member": {
			current(`,"breaker":{"opens_ms":1}`), `property "breaker" validation failed: additional properties forbidden, found opens_ms`,
		},
		"an unknown place of the key": {
			current(`,"balancer":{"algorithm":"chash","hash_on":"moon","key":"a"}`),
			`property "balancer" validation failed: property "hash_on" validation failed: matches none of the enum values`,
		},
		"chash on a variable": {current(`,"balancer":{"algorithm":"chash","key":"arg_x"}`), ""},
		"chash without a key": {
			current(`,"balancer":{"algorithm":"chash"}`), "must configure `hash_key` when balancer `hash_on` is not set to cookie",
		},
		"chash on a cookie without a key": {
			current(`,"balancer":{"algorithm":"chash","hash_on":"cookie"}`), "must configure `hash_key` when balancer `hash_on` is not set to cookie",
		},
		"chash on the consumer needs no key":  {current(`,"balancer":{"algorithm":"chash","hash_on":"consumer"}`), ""},
		"chash on a combination":              {current(`,"balancer":{"algorithm":"chash","hash_on":"vars_combinations","key":"$uri-$arg_x"}`), ""},
		"chash on a variable that is not one": {current(`,"balancer":{"algorithm":"chash","key":"moon_phase"}`), `invalid configuration: failed to match pattern ` + pattern + ` with "moon_phase"`},
		"chash on an empty key":               {current(`,"balancer":{"algorithm":"chash","key":""}`), `invalid configuration: failed to match pattern ` + pattern + ` with ""`},
		"chash on a header with a space":      {current(`,"balancer":{"algorithm":"chash","hash_on":"header","key":"a b"}`), `invalid configuration: failed to match pattern "^[a-zA-Z0-9-_]+$" with "a b"`},
		"an unknown strategy": {
			current(`,"fallback_strategy":"prayer"`), `property "fallback_strategy" validation failed: object matches none of the required`,
		},
		"a status twice": {
			current(`,"fallback_http_statuses":[403,403]`), `property "fallback_http_statuses" validation failed: expected unique items but items 1 and 2 are equal`,
		},
		"no statuses": {
			current(`,"fallback_http_statuses":[]`), `property "fallback_http_statuses" validation failed: expect array to have at least 1 items`,
		},
		"a retry window of 0": {
			current(`,"retry_on_failure_within_ms":0`), `property "retry_on_failure_within_ms" validation failed: expected 0 to be at least 1`,
		},
		"semantic without embeddings": {
			current(`,"balancer":{"algorithm":"semantic"}`), "must configure `semantic_opts.embeddings` when balancer algorithm is semantic",
		},
		"semantic without examples": {
			current(semantic(`{"provider":"openai","model":"e","auth":{}}`)),
			"instance 'kiwi': must configure non-empty `examples` for the semantic algorithm",
		},
		"embeddings without a model": {
			current(semantic(`{"provider":"openai","auth":{}}`)),
			`property "semantic_opts" validation failed: property "embeddings" validation failed: property "model" is required`,
		},
		"embeddings with an endpoint that is none": {
			current(semantic(`{"provider":"openai","model":"e","auth":{},"endpoint":"x"}`)), "invalid `semantic_opts.embeddings.endpoint`",
		},
		"azure embeddings without an endpoint": {
			current(semantic(`{"provider":"azure-openai","model":"e","auth":{}}`)),
			"must configure `semantic_opts.embeddings.endpoint` when embeddings provider is azure-openai",
		},
		"azure embeddings without a path": {
			current(semantic(`{"provider":"azure-openai","model":"e","auth":{},"endpoint":"https://a.openai.azure.com"}`)),
			"`semantic_opts.embeddings.endpoint` for azure-openai must include the full deployment path, e.g. " +
				"https://{resource}.openai.azure.com/openai/deployments/{deployment}/embeddings?api-version=...",
		},
		"a fallback that is no instance": {
			current(`,"balancer":{"algorithm":"semantic"},"semantic_opts":{"embeddings":{"provider":"openai","model":"e","auth":{}},"fallback":"ostrich"}`, withExamples...),
			"`semantic_opts.fallback` names unknown instance 'ostrich'",
		},
		"semantic that is complete": {
			current(semantic(`{"provider":"openai","model":"e","auth":{}}`), withExamples...), "",
		},

		"seed: two providers":         {seed("", oa, ds), ""},
		"seed: no providers":          {seed(""), `property "providers" validation failed: expect array to have at least 1 items`},
		"seed: an unknown provider":   {seed("", seedMember("some-unique", "a:1", "")), `provider: some-unique is not supported.`},
		"seed: the members of single": {`{"model":{"provider":"openai","name":"m"}}`, `property "providers" is required`},
		"seed: the provider is judged before the schema": {
			`{"providers":[{"name":"some-unique"}]}`, `provider: some-unique is not supported.`,
		},
		"seed: no model": {
			`{"providers":[{"name":"openai","auth":{}}]}`, `property "providers" validation failed: failed to validate item 1: property "model" is required`,
		},
		"seed: equal providers": {seed("", oa, oa), `duplicate instance name 'openai' at providers[1] and providers[2]`},
		"seed: chash without hash_on": {
			seed(`,"balancer":{"algorithm":"chash","key":"uri"}`, oa, ds), "must configure `hash_on` when balancer algorithm is chash",
		},
		"seed: chash without a key": {
			seed(`,"balancer":{"algorithm":"chash","hash_on":"vars"}`, oa, ds), "must configure `hash_key` when balancer `hash_on` is not set to cookie",
		},
		"seed: chash on something unknown": {
			seed(`,"balancer":{"algorithm":"chash","hash_on":"moon","key":"a"}`, oa, ds), "type is chash, err: invalid hash_on type moon",
		},
		"seed: chash on a bad key": {
			seed(`,"balancer":{"algorithm":"chash","hash_on":"vars","key":"moon"}`, oa, ds),
			`invalid configuration: failed to match pattern ` + pattern + ` with "moon"`,
		},
		"a mixture": {`{"providers":[],"instances":[]}`, errMixed.Error()},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := judge(newRig(t), "ai-proxy-multi", tt.conf); got != tt.want {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
		})
	}
}

// compiled returns the instances of a configuration of ai-proxy.
func compiled(t *testing.T, conf string) *drivers.Instance {
	t.Helper()
	c, err := readSingle([]byte(conf))
	if err != nil {
		t.Fatal(err)
	}
	p, err := Deps{Drivers: allDrivers()}.compile("ai-proxy", c)
	if err != nil {
		t.Fatal(err)
	}
	return p.instances[0]
}

func TestPlaces(t *testing.T) {
	tests := map[string]struct {
		conf                     string
		scheme, addr, host, path string
		query                    string
	}{
		"the provider's own": {
			conf: `{"provider":"deepseek","auth":{}}`, scheme: "https", addr: "api.deepseek.com:443", host: "api.deepseek.com",
		},
		"an endpoint without port and path": {
			conf: `{"provider":"openai","auth":{},"override":{"endpoint":"http://a.test"}}`, scheme: "http", addr: "a.test:80", host: "a.test",
		},
		"an endpoint over TLS": {
			conf: `{"provider":"openai","auth":{},"override":{"endpoint":"https://a.test"}}`, scheme: "https", addr: "a.test:443", host: "a.test",
		},
		"an endpoint with everything": {
			conf:   `{"provider":"openai","auth":{"query":{"key":"a b&c","v":"1"}},"override":{"endpoint":"https://a.test:8443/x%20y?v=2&w"}}`,
			scheme: "https", addr: "a.test:8443", host: "a.test:8443", path: "/x%20y", query: "key=a%20b%26c&v=2&w",
		},
		"what may not stand in a request line is encoded": {
			conf:   `{"provider":"openai","auth":{},"override":{"endpoint":"http://a.test/x y?v=a b&w=é"}}`,
			scheme: "http", addr: "a.test:80", host: "a.test", path: "/x%20y", query: "v=a%20b&w=%C3%A9",
		},
		"a path that is only a slash counts": {
			conf: `{"provider":"openai","auth":{},"override":{"endpoint":"http://a.test/"}}`, scheme: "http", addr: "a.test:80", host: "a.test", path: "/",
		},
		"an address of IPv6": {
			conf: `{"provider":"openai","auth":{},"override":{"endpoint":"http://[::1]:81"}}`, scheme: "http", addr: "[::1]:81", host: "[::1]:81",
		},
		"a configured Host": {
			conf: `{"provider":"openai","auth":{"header":{"Host":"other.test"}},"override":{"endpoint":"http://a.test"}}`, scheme: "http", addr: "a.test:80", host: "other.test",
		},
		"seed: no port means 443": {
			conf: `{"model":{"provider":"openai","name":"m"},"auth":{},"override":{"endpoint":"http://a.test"}}`, scheme: "http", addr: "a.test:443", host: "a.test:443",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			i := compiled(t, tt.conf)
			got := []string{i.Scheme, i.Target.Addr, i.Host, i.Path, i.Query}
			if diff := cmp.Diff([]string{tt.scheme, tt.addr, tt.host, tt.path, tt.query}, got); diff != "" {
				t.Error(diff)
			}
			if (i.Target.TLS != nil) != (tt.scheme == "https") || i.Unreachable != nil {
				t.Errorf("TLS %v, unreachable: %v", i.Target.TLS != nil, i.Unreachable)
			}
		})
	}
}

func TestConnectionsOfOneProviderAreSharedByItsConfigurations(t *testing.T) {
	a, b := compiled(t, `{"provider":"openai","auth":{},"ssl_verify":true}`), compiled(t, `{"provider":"openai","auth":{},"ssl_verify":true,"timeout":5}`)
	if a.Target.TLS != b.Target.TLS {
		t.Error("got two TLS configurations, so two pools")
	}
	open := compiled(t, `{"provider":"openai","auth":{},"ssl_verify":false}`)
	if a.Target.TLS.InsecureSkipVerify || !open.Target.TLS.InsecureSkipVerify {
		t.Error("ssl_verify is not what was configured")
	}
}

func TestCredentialsAreWhatIsNotEmpty(t *testing.T) {
	tests := map[string]struct {
		auth string
		want bool
		sent []exchange.Field
	}{
		"none":              {`{}`, false, nil},
		"a header":          {`{"header":{"Authorization":"x"}}`, true, []exchange.Field{{Name: "Authorization", Value: "x"}}},
		"an empty header":   {`{"header":{"Authorization":""}}`, false, nil},
		"an argument":       {`{"query":{"key":"x"}}`, true, nil},
		"an empty argument": {`{"query":{"key":""}}`, false, nil},
		"an empty object":   {`{"header":{}}`, false, nil},
		"what the request decides is not sent": {
			`{"header":{"Content-Type":"text/x","Content-Length":"1","Connection":"x","A":"1"}}`, true, []exchange.Field{{Name: "A", Value: "1"}},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			i := compiled(t, `{"provider":"openai","auth":`+tt.auth+`}`)
			if i.Credentials != tt.want {
				t.Errorf("got %v, want %v", i.Credentials, tt.want)
			}
			if diff := cmp.Diff(tt.sent, i.Header); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestWhatHasNoEffectIsSaidInTheLog(t *testing.T) {
	tests := map[string]struct{ name, conf, want string }{
		"a secret":            {"ai-proxy", `{"provider":"openai","auth":{"header":{"a":"$env://KEY"}}}`, "are not looked up by this version"},
		"a bad endpoint":      {"ai-proxy", `{"provider":"openai","auth":{},"override":{"endpoint":"not a url"}}`, "cannot be called"},
		"a missing endpoint":  {"ai-proxy", `{"provider":"azure-openai","auth":{}}`, "cannot be called"},
		"nothing of the kind": {"ai-proxy", `{"provider":"openai","auth":{}}`, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.route(tt.name, tt.conf)
			if got := r.log.String(); !strings.Contains(got, tt.want) || tt.want == "" && got != "" {
				t.Errorf("got %q, want %q in it", got, tt.want)
			}
		})
	}
}
