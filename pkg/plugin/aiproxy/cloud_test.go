package aiproxy

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gosix/gosix/pkg/drivers"
	"github.com/gosix/gosix/pkg/drivers/eventstream"
)

const (
	awsID, awsSecret = "AKIDTEST", "test+secret/key"
	converse         = `{"model":"us.some-model-v1:0","messages":[{"role":"user","content":[{"text":"hi"}]}]}`
	conversed        = `{"output":{"message":{"role":"assistant","content":[{"text":"hello"}]}},"stopReason":"end_turn",` +
		`"usage":{"inputTokens":3,"outputTokens":1,"totalTokens":4}}`
)

// asked is what a fake cloud got.
type asked struct {
	mu   sync.Mutex
	list []string // method, path as on the wire, body, and what the test chose of the header
}

func (a *asked) add(q *http.Request, header ...string) (body string) {
	raw, _ := io.ReadAll(q.Body)
	line := q.Method + " " + q.RequestURI + " " + string(raw)
	for _, name := range header {
		line += " " + name + "=" + strings.Join(q.Header.Values(name), ",")
	}
	a.mu.Lock()
	a.list = append(a.list, line)
	a.mu.Unlock()
	return string(raw)
}

func (a *asked) all() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]string(nil), a.list...)
}

// signature computes what the signature of a request must be from what arrived, as AWS
// documents it.
func signature(q *http.Request, body string) string {
	sum := func(s string) string { h := sha256.Sum256([]byte(s)); return hex.EncodeToString(h[:]) }
	mac := func(key, text string) string {
		h := hmac.New(sha256.New, []byte(key))
		h.Write([]byte(text))
		return string(h.Sum(nil))
	}
	field := func(name string) string {
		_, rest, _ := strings.Cut(q.Header.Get("Authorization"), name+"=")
		value, _, _ := strings.Cut(rest, ",")
		return value
	}
	path, query, _ := strings.Cut(q.RequestURI, "?")
	segments := strings.Split(path, "/")
	for n := range segments {
		segments[n] = url.QueryEscape(segments[n])
	}
	text := q.Method + "\n" + strings.Join(segments, "/") + "\n" + query + "\n"
	for _, name := range strings.Split(field("SignedHeaders"), ";") {
		value := q.Header.Get(name)
		if name == "host" {
			value = q.Host
		}
		text += name + ":" + value + "\n"
	}
	text += "\n" + field("SignedHeaders") + "\n" + sum(body)
	_, scope, _ := strings.Cut(field("Credential"), "/")
	key := "AWS4" + awsSecret
	for _, part := range strings.Split(scope, "/") {
		key = mac(key, part)
	}
	return hex.EncodeToString([]byte(mac(key, "AWS4-HMAC-SHA256\n"+q.Header.Get("X-Amz-Date")+"\n"+scope+"\n"+sum(text))))
}

// fakeAWS is a fake Bedrock. It refuses what is not signed with the test's keys.
func fakeAWS(t *testing.T, answer http.HandlerFunc) (*asked, string) {
	t.Helper()
	a := &asked{}
	return a, provider(t, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		body := a.add(q, "X-Amz-Security-Token")
		if !strings.HasSuffix(q.Header.Get("Authorization"), ", Signature="+signature(q, body)) {
			w.WriteHeader(http.StatusForbidden)
			_, _ = fmt.Fprintf(w, `{"message":"signature does not match: %s"}`, q.Header.Get("Authorization"))
			return
		}
		answer(w, q)
	}))
}

// bedrockAt is a configuration of ai-proxy for a fake Bedrock; more are members of it.
func bedrockAt(addr, id, more string) string {
	return fmt.Sprintf(`{"provider":"bedrock","auth":{"aws":{"access_key_id":%q,"secret_access_key":%q,"session_token":"session"}},`+
		`"provider_conf":{"region":"eu-west-1"},"override":{"endpoint":"http://%s"}%s}`, id, awsSecret, addr, more)
}

func answerWith(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, body)
	}
}

func TestBedrockIsAskedWithASignature(t *testing.T) {
	tests := map[string]struct{ more, body, path, want string }{
		"a model that the client names": {
			"", converse, "/model/us.some-model-v1%3A0/converse", `{"messages":[{"role":"user","content":[{"text":"hi"}]}]}`,
		},
		"a model that is configured": {
			`,"options":{"model":"arn:aws:bedrock:eu-west-1:1:application-inference-profile/x"}`, `{"messages":[]}`,
			"/model/arn%3Aaws%3Abedrock%3Aeu-west-1%3A1%3Aapplication-inference-profile%2Fx/converse", `{"messages":[]}`,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			cloud, addr := fakeAWS(t, answerWith(conversed))
			r := newRig(t)
			got, _ := r.ask(r.route("ai-proxy", bedrockAt(addr, awsID, tt.more)), request{
				uri: "/any/converse", body: tt.body, header: []string{"Authorization", "Bearer client", "X-Amz-Security-Token", "client"},
			})
			if got.status != 200 || got.body() != conversed {
				t.Errorf("got %d %s", got.status, got.body())
			}
			if diff := cmp.Diff([]string{"POST " + tt.path + " " + tt.want + " X-Amz-Security-Token=session"}, cloud.all()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestBedrockStreams(t *testing.T) {
	message := func(kind, payload string) []byte {
		return eventstream.AppendMessage(nil, eventstream.Message{
			Type: eventstream.Event, Kind: kind, ContentType: "application/json", Payload: []byte(payload),
		})
	}
	first := append(message("messageStart", `{"role":"assistant"}`), message("contentBlockDelta", `{"delta":{"text":"hello"}}`)...)
	last := append(message("messageStop", `{"stopReason":"end_turn"}`),
		message("metadata", `{"usage":{"inputTokens":3,"outputTokens":1,"totalTokens":4}}`)...)
	for name, whole := range map[string]bool{"to the end": true, "and is cut": false} {
		t.Run(name, func(t *testing.T) {
			goOn := make(chan struct{})
			cloud, addr := fakeAWS(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", eventstream.ContentType)
				_, _ = w.Write(first)
				_ = http.NewResponseController(w).Flush()
				<-goOn // the client has the first part before the second is sent
				if !whole {
					panic(http.ErrAbortHandler)
				}
				_, _ = w.Write(last)
			})
			r := newRig(t)
			s := &sink{flushed: make(chan struct{}, 8)}
			go func() {
				<-s.flushed
				close(goOn)
			}()
			_, c := r.ask(r.route("ai-proxy", bedrockAt(addr, awsID, `,"options":{"model":"m"}`)), request{
				uri: "/any/converse", body: `{"stream":true,"messages":[]}`, sink: s,
			})
			if kind := s.header.Get("Content-Type"); s.status != 200 || kind != eventstream.ContentType {
				t.Errorf("got %d %s", s.status, kind)
			}
			body, begins := strings.CutPrefix(s.body(), string(first))
			switch {
			case !begins:
				t.Errorf("got %q", s.body())
			case whole && (body != string(last) || s.aborted || c.Facts.LLM.TotalTokens != 4):
				t.Errorf("got %q at the end, aborted %v, %d tokens", body, s.aborted, c.Facts.LLM.TotalTokens)
			case !whole && (!strings.Contains(body, "modelStreamErrorException") || !s.aborted):
				t.Errorf("got %q at the end, aborted %v", body, s.aborted)
			}
			want := `POST /model/m/converse-stream {"messages":[]} X-Amz-Security-Token=session`
			if diff := cmp.Diff([]string{want}, cloud.all()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestWithoutAModelBedrockHasNoPath(t *testing.T) {
	cloud, addr := fakeAWS(t, answerWith(conversed))
	r := newRig(t)
	got, _ := r.ask(r.route("ai-proxy", bedrockAt(addr, awsID, "")), request{uri: "/any/converse", body: `{"messages":[]}`})
	if want := `{"error_msg":"` + drivers.ErrNoPath.Error() + "\"}\n"; got.status != 400 || got.body() != want || len(cloud.all()) > 0 {
		t.Errorf("got %d %s", got.status, got.body())
	}
}

func TestWhatCannotBeSignedIsNotSent(t *testing.T) {
	cloud, addr := fakeAWS(t, answerWith(conversed))
	r := newRig(t)
	got, _ := r.ask(r.route("ai-proxy", bedrockAt(addr, "AK ID", "")), request{uri: "/any/converse", body: converse})
	want := `{"error_msg":"failed to sign AWS request: the keys have a character where none may be"}` + "\n"
	if got.status != 500 || got.body() != want || len(cloud.all()) > 0 {
		t.Errorf("got %d %s", got.status, got.body())
	}
}

var serviceKey = sync.OnceValue(func() string {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		panic(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
})

// fakeGoogle is a fake token endpoint, and an account for it as a JSON text.
func fakeGoogle(t *testing.T, answer http.HandlerFunc) (*asked, string) {
	t.Helper()
	a := &asked{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		a.add(q)
		answer(w, q)
	}))
	t.Cleanup(s.Close)
	file, err := json.Marshal(map[string]string{"client_email": "robot@test", "private_key": serviceKey(), "token_uri": s.URL})
	if err != nil {
		t.Fatal(err)
	}
	return a, string(file)
}

// vertexAt is an instance of ai-proxy-multi for a fake Vertex AI.
func vertexAt(addr, account, more string) string {
	gcp := map[string]string{}
	if account != "" {
		gcp["service_account_json"] = account
	}
	raw, _ := json.Marshal(gcp)
	return fmt.Sprintf(`{"name":"vertex","weight":1,"priority":1,"provider":"vertex-ai","auth":{"gcp":%s},`+
		`"provider_conf":{"project_id":"p","region":"us-central1"},"override":{"endpoint":"http://%s"}%s}`, raw, addr, more)
}

const (
	goodToken  = `{"access_token":"ya29.test","expires_in":3600}`
	vertexChat = "/v1beta1/projects/p/locations/us-central1/endpoints/openapi/chat/completions"
	chatted    = `{"choices":[{"message":{"role":"assistant","content":"hello"},"finish_reason":"stop"}],` +
		`"usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4}}`
)

func TestAServiceAccountsTokenIsSentAndKept(t *testing.T) {
	for name, own := range map[string]bool{"the instance's own account": true, "the program's account": false} {
		t.Run(name, func(t *testing.T) {
			endpoint, account := fakeGoogle(t, answerWith(goodToken))
			cloud := &asked{}
			addr := provider(t, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
				cloud.add(q, "Authorization", "X-Api-Key")
				answerWith(chatted)(w, q)
			}))
			r := newRigWith(t, account)
			if !own {
				account = ""
			}
			conf := multi("instances", "", vertexAt(addr, account, `,"options":{"model":"google/gemini-2.0-flash"}`))
			chain := r.route("ai-proxy-multi", conf)
			for range 3 {
				got, c := r.ask(chain, request{body: hello, header: []string{"Authorization", "Bearer client", "X-API-Key", "client"}})
				if got.status != 200 || got.body() != chatted || c.Facts.LLM.PromptTokens != 3 {
					t.Fatalf("got %d %s", got.status, got.body())
				}
				chain = r.routeAfter(chain, "ai-proxy-multi", conf) // a new version of the configuration keeps the token
			}
			want := "POST " + vertexChat + ` {"model":"google/gemini-2.0-flash","messages":[{"role":"user","content":"hello"}]}` +
				" Authorization=Bearer ya29.test X-Api-Key="
			if diff := cmp.Diff([]string{want, want, want}, cloud.all()); diff != "" {
				t.Error(diff)
			}
			if n := len(endpoint.all()); n != 1 {
				t.Errorf("the token endpoint was asked %d times", n)
			}
		})
	}
}

func TestWithoutATokenAnotherInstanceMayBeAsked(t *testing.T) {
	for name, tt := range map[string]struct {
		more, want string
		status     int
	}{
		"unless a fallback is configured": {"", `{"error_msg":"failed to get gcp access token: failed to get google oauth token"}` + "\n", 500},
		"where one is":                    {`,"fallback_strategy":"http_5xx"`, chatted, 200},
	} {
		t.Run(name, func(t *testing.T) {
			_, account := fakeGoogle(t, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(http.StatusBadRequest)
				_, _ = io.WriteString(w, `{"error":"invalid_grant","error_description":"no such account"}`)
			})
			cloud := &asked{}
			addr := provider(t, http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) { cloud.add(q) }))
			second := provider(t, answerWith(chatted))
			r := newRig(t)
			got, _ := r.ask(r.route("ai-proxy-multi", multi("instances", tt.more, vertexAt(addr, account, ""), member("second", second, ""))),
				request{body: hello})
			if got.status != tt.status || got.body() != tt.want {
				t.Errorf("got %d %s", got.status, got.body())
			}
			if len(cloud.all()) > 0 {
				t.Errorf("without a token vertex was asked: %q", cloud.all())
			}
			lines := r.log.String()
			if !strings.Contains(lines, "token endpoint answered 400: invalid_grant: no such account") || strings.Contains(lines, "PRIVATE KEY") {
				t.Errorf("log: %s", lines)
			}
		})
	}
}

func TestATokenIsForAnyProvider(t *testing.T) {
	_, account := fakeGoogle(t, answerWith(goodToken))
	cloud := &asked{}
	addr := provider(t, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		cloud.add(q, "Authorization")
		answerWith(chatted)(w, q)
	}))
	r := newRigWith(t, account)
	got, _ := r.ask(r.route("ai-proxy", fmt.Sprintf(`{"provider":"openai-compatible","auth":{"gcp":{"max_ttl":8}},"override":{"endpoint":"http://%s"}}`, addr)),
		request{body: hello, header: []string{"Authorization", "Bearer client"}})
	if got.status != 200 || !strings.HasSuffix(strings.Join(cloud.all(), ""), " Authorization=Bearer ya29.test") {
		t.Errorf("got %d, the provider got %q", got.status, cloud.all())
	}
}

func TestWarningsAboutClouds(t *testing.T) {
	for name, tt := range map[string]struct{ conf, want string }{
		"keys for another provider": {
			`{"provider":"openai","auth":{"aws":{"access_key_id":"a","secret_access_key":"b"}}}`,
			"instance ai-proxy-openai: auth.aws has no effect with provider openai",
		},
		"an account that is a secret": {
			`{"provider":"gemini","auth":{"gcp":{"service_account_json":"$secret://vault/1/a/b"}}}`,
			"instance ai-proxy-gemini: secret references in auth are not looked up by this version",
		},
		"a key that is one": {
			bedrockAt("a:1", "$env://KEY", ""), "instance ai-proxy-bedrock: secret references in auth are not looked up by this version",
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.route("ai-proxy", tt.conf)
			if got := r.log.String(); !strings.Contains(got, tt.want) {
				t.Errorf("got %s", got)
			}
		})
	}
}

func TestCredentialsOfCloudsKeepTheClientsOwnHere(t *testing.T) {
	for name, tt := range map[string]struct {
		auth string
		want bool
	}{
		"none":                         {`{}`, false},
		"a service account":            {`{"gcp":{"service_account_json":"{}"}}`, true},
		"the program's account":        {`{"gcp":{}}`, true},
		"an empty list for an account": {`{"gcp":[]}`, true},
		"keys":                         {`{"aws":{"access_key_id":"a","secret_access_key":"b"}}`, true},
	} {
		t.Run(name, func(t *testing.T) {
			if got := compiled(t, `{"provider":"gemini","auth":`+tt.auth+`}`).Credentials; got != tt.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

func TestKeysAreNotPrinted(t *testing.T) {
	i := compiled(t, bedrockAt("a:1", awsID, ""))
	if got := fmt.Sprintf("%v %+v %#v", i.AWS, *i.AWS, i.AWS); strings.Contains(got, awsSecret) || strings.Contains(got, "session") {
		t.Errorf("got %s", got)
	}
}
