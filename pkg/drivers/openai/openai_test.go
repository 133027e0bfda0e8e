package openai

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gosix/gosix/pkg/drivers"
	"github.com/gosix/gosix/pkg/drivers/drivertest"
	"github.com/gosix/gosix/pkg/drivers/protocol"
	"github.com/gosix/gosix/pkg/exchange"
	"github.com/gosix/gosix/pkg/jsonedit"
)

const hello = `{"model":"m","messages":[]}`

func edits(namesAndValues ...string) (list []jsonedit.Edit) {
	for n := 0; n < len(namesAndValues); n += 2 {
		list = append(list, jsonedit.Edit{Name: namesAndValues[n], Value: []byte(namesAndValues[n+1])})
	}
	return list
}

func TestBodies(t *testing.T) {
	chat := func(body string) map[protocol.ID][]byte {
		return map[protocol.ID][]byte{protocol.OpenAIChat: []byte(body)}
	}
	tests := map[string]struct {
		provider   string
		instance   drivers.Instance
		path, body string
		want       string
	}{
		"nothing configured: the client's bytes": {
			"openai", drivers.Instance{Usage: true}, "/", `{ "messages" : [ ], "x":1.50 }`, `{ "messages" : [ ], "x":1.50 }`,
		},
		"what is not named keeps its bytes and its place": {
			"openai",
			drivers.Instance{Options: edits("model", `"new"`)},
			"/",
			"{\"big\":12345678901234567890,\n \"mod\\u0065l\" : \"old\", \"t\":1e-7,\"u\":1.0,\"messages\":[{\"c\":\"\\u0041\"}]}",
			"{\"big\":12345678901234567890,\n \"mod\\u0065l\" : \"new\", \"t\":1e-7,\"u\":1.0,\"messages\":[{\"c\":\"\\u0041\"}]}",
		},
		"a stream is asked for its usage": {
			"openai",
			drivers.Instance{Usage: true},
			"/", `{"messages":[],"stream":true,"stream_options":{"a":1}}`,
			`{"messages":[],"stream":true,"stream_options":{"include_usage":true}}`,
		},
		"any value but false and null asks for a stream (recorded)": {
			"openai", drivers.Instance{Usage: true}, "/", `{"messages":[],"stream":1}`, `{"messages":[],"stream":1,"stream_options":{"include_usage":true}}`,
		},
		"null asks for none":     {"openai", drivers.Instance{Usage: true}, "/", `{"messages":[],"stream":null}`, `{"messages":[],"stream":null}`},
		"the seed asks for none": {"openai", drivers.Instance{}, "/", `{"messages":[],"stream":true}`, `{"messages":[],"stream":true}`},
		"responses ask for none": {"openai", drivers.Instance{Usage: true}, "/v1/responses", `{"input":"x","stream":true}`, `{"input":"x","stream":true}`},
		"options win over what asks for the usage": {
			"openai",
			drivers.Instance{Usage: true, Options: edits("stream_options", `{"include_usage":false}`)},
			"/", `{"messages":[],"stream":true}`,
			`{"messages":[],"stream":true,"stream_options":{"include_usage":false}}`,
		},
		"max_tokens of openai": {
			"openai", drivers.Instance{MaxTokens: []byte("9")}, "/", `{"max_tokens":1,"messages":[]}`, `{"messages":[],"max_completion_tokens":9}`,
		},
		"max_tokens of openai beats the options": {
			"openai",
			drivers.Instance{MaxTokens: []byte("9"), Options: edits("max_tokens", "5", "max_completion_tokens", "6")},
			"/", `{"messages":[]}`,
			`{"messages":[],"max_completion_tokens":9}`,
		},
		"max_tokens of deepseek":  {"deepseek", drivers.Instance{MaxTokens: []byte("9")}, "/", `{"max_tokens":1,"messages":[]}`, `{"max_tokens":9,"messages":[]}`},
		"max_tokens of responses": {"openai", drivers.Instance{MaxTokens: []byte("9")}, "/v1/responses", `{"input":"x"}`, `{"input":"x","max_output_tokens":9}`},
		"embeddings have none":    {"openai", drivers.Instance{MaxTokens: []byte("9")}, "/", `{"input":"x"}`, `{"input":"x"}`},
		"a configured body fills what is absent, object by object": {
			"openai",
			drivers.Instance{Bodies: chat(`{"a":1,"b":{"c":1,"d":{"e":1}},"f":[1]}`)},
			"/", `{"messages":[],"a":0,"b":{"c":0,"d":{}},"f":[]}`,
			`{"messages":[],"a":0,"b":{"c":0,"d":{"e":1}},"f":[]}`,
		},
		"forced, it overwrites": {
			"openai",
			drivers.Instance{Force: true, Bodies: chat(`{"a":1,"b":{"c":1},"f":[1]}`)},
			"/", `{"messages":[],"a":0,"b":{"c":0,"x":0},"f":[]}`,
			`{"messages":[],"a":1,"b":{"c":1,"x":0},"f":[1]}`,
		},
		"forced, it beats max_tokens": {
			"openai",
			drivers.Instance{Force: true, MaxTokens: []byte("9"), Bodies: chat(`{"max_completion_tokens":44}`)},
			"/", `{"messages":[]}`,
			`{"messages":[],"max_completion_tokens":44}`,
		},
		"it fills what was taken out before": {
			"openai",
			drivers.Instance{MaxTokens: []byte("9"), Bodies: chat(`{"max_tokens":44}`)},
			"/", `{"max_tokens":1,"messages":[]}`,
			`{"max_tokens":44,"messages":[],"max_completion_tokens":9}`,
		},
		"that of another protocol is left alone": {
			"openai", drivers.Instance{Bodies: chat(`{"a":1}`)}, "/", `{"input":"x"}`, `{"input":"x"}`,
		},
		"azure knows no model": {
			"azure-openai", drivers.Instance{Options: edits("model", `"x"`, "a", "1")}, "/", hello, `{"messages":[],"a":1}`,
		},
		"a list is passed through": {"openai", drivers.Instance{Options: edits("a", "1")}, "/", `[1]`, `[1]`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			tt.instance.Path, tt.instance.Driver = "/own", Providers()[tt.provider]
			req, err := tt.instance.Driver.Request(drivertest.NewCall(t, &tt.instance, tt.path, tt.body))
			if err != nil {
				t.Fatal(err)
			}
			if got := string(jsonedit.Join(req.Body)); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestRequestIsAPureFunction(t *testing.T) {
	i := &drivers.Instance{Usage: true, Options: edits("model", `"x"`), MaxTokens: []byte("9"), Path: "/own"}
	d := Providers()["openai"]
	i.Driver = d
	call := drivertest.NewCall(t, i, "/", `{"model":"m","messages":[],"stream":true,"max_tokens":1}`)
	first, err := d.Request(call)
	if err != nil {
		t.Fatal(err)
	}
	want := string(jsonedit.Join(first.Body))
	for range 3 {
		again, err := d.Request(call)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(jsonedit.Join(again.Body)); got != want {
			t.Errorf("got %s, before that %s", got, want)
		}
	}
}

func TestProviders(t *testing.T) {
	tests := map[string]struct{ host, chat, responses, embeddings, messages string }{
		"openai":            {"api.openai.com", "/v1/chat/completions", "/v1/responses", "/v1/embeddings", ""},
		"openai-compatible": {"", "/v1/chat/completions", "/v1/responses", "/v1/embeddings", ""},
		"deepseek":          {"api.deepseek.com", "/chat/completions", "", "", ""},
		"aimlapi":           {"api.aimlapi.com", "/chat/completions", "", "", ""},
		"openrouter":        {"openrouter.ai", "/api/v1/chat/completions", "", "", ""},
		"anthropic":         {"api.anthropic.com", "/v1/chat/completions", "", "", "/v1/messages"},
		"azure-openai":      {"", "/completions", "", "", ""},
	}
	if got := len(Providers()); got != len(tests) {
		t.Errorf("got %d providers, want %d", got, len(tests))
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			d := Providers()[name]
			if got := d.Endpoint(drivers.Where{}).Host; got != tt.host {
				t.Errorf("got host %q, want %q", got, tt.host)
			}
			for _, p := range []struct{ path, body, want string }{
				{"/", hello, tt.chat},
				{"/v1/responses", `{"input":"x"}`, tt.responses},
				{"/", `{"input":"x"}`, tt.embeddings},
				{"/v1/messages", `{"messages":[]}`, tt.messages},
			} {
				doc, err := jsonedit.Index([]byte(p.body), jsonedit.Options{})
				if err != nil {
					t.Fatal(err)
				}
				id, _ := protocol.Detect(p.path, doc)
				if speaks := slices.Contains(d.Native(), id); !speaks || p.want == "" {
					if speaks || p.want != "" {
						t.Errorf("%s: speaks %s: %v", p.body, id, speaks)
					}
					continue
				}
				call := drivertest.NewCall(t, &drivers.Instance{Driver: d}, p.path, p.body)
				if req, err := d.Request(call); err != nil || req.Path != p.want {
					t.Errorf("%s: got %+v, %v, want %s", p.body, req, err, p.want)
				}
			}
		})
	}
}

func TestHeaders(t *testing.T) {
	client := []string{
		"Host", "gw", "X-Mine", "1", "Authorization", "Bearer client", "X-Api-Key", "k", "api-key", "k", "ApiKey", "k", "Cookie", "c",
		"Content-Length", "5", "Content-Type", "application/json; charset=x", "Accept-Encoding", "gzip", "TE", "trailers",
		"Connection", "keep-alive, X-Hop", "X-Hop", "1", "Transfer-Encoding", "chunked", "X-Forwarded-For", "1.2.3.4", "X-Real-IP", "1",
		"Forwarded", "for=1", "X-Consumer-Username", "u", "X-Credential-Identifier", "c", "X-Vendor", "client",
	}
	type fields = []exchange.Field
	own := fields{{Name: "x-vendor", Value: "own"}}
	jsonType := exchange.Field{Name: "Content-Type", Value: "application/json"}
	credentials := fields{
		{Name: "Authorization", Value: "Bearer client"},
		{Name: "X-Api-Key", Value: "k"},
		{Name: "api-key", Value: "k"},
		{Name: "ApiKey", Value: "k"},
		{Name: "Cookie", Value: "c"},
	}
	mine, vendor := exchange.Field{Name: "X-Mine", Value: "1"}, exchange.Field{Name: "X-Vendor", Value: "client"}
	tests := map[string]struct {
		instance drivers.Instance
		want     fields
	}{
		"own credentials":                     {drivers.Instance{Forward: true, Credentials: true, Header: own}, fields{own[0], jsonType, mine}},
		"no credentials: the client's":        {drivers.Instance{Forward: true}, append(append(fields{jsonType, mine}, credentials...), vendor)},
		"the seed generation":                 {drivers.Instance{Credentials: true, Header: own}, fields{own[0], jsonType}},
		"the seed generation without its own": {drivers.Instance{}, append(fields{jsonType}, credentials...)},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			tt.instance.Driver = Providers()["openai"]
			call := drivertest.NewCall(t, &tt.instance, "/", hello)
			for n := 0; n < len(client); n += 2 {
				call.Request.Header.Add(client[n], client[n+1])
			}
			req, err := tt.instance.Driver.Request(call)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, req.Header.Fields()); diff != "" {
				t.Error(diff)
			}
		})
	}
}
