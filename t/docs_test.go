package t

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/gosix/gosix/pkg/builtin"
	"github.com/gosix/gosix/t/fakellm"
)

// block is a block of code of a page.
type block struct {
	before string // the text between it and the block before
	text   string
}

// blocks are the blocks of a page in a language, in order.
func blocks(t *testing.T, file, language string) (list []block) {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split("\n"+string(raw), "\n```")
	if len(parts)%2 == 0 {
		t.Fatalf("%s has a block that does not end", file)
	}
	for i := 1; i < len(parts); i += 2 {
		if text, ok := strings.CutPrefix(parts[i], language+"\n"); ok {
			list = append(list, block{parts[i-1], text + "\n"})
		}
	}
	return list
}

// Every JSON example is accepted by the Admin API as it stands, and in force on the node,
// without a warning.
func TestExamplesOfDocumentsAreInForce(t *testing.T) {
	t.Setenv("GCP_SERVICE_ACCOUNT", serviceAccount(t))
	plugins, err := filepath.Glob("../pkg/plugin/*/README.md")
	if err != nil || len(plugins) == 0 {
		t.Fatalf("no READMEs: %v", err)
	}
	for _, file := range plugins {
		if len(blocks(t, file, "json")) == 0 {
			t.Errorf("%s has no example", file)
		}
	}
	pages, err := filepath.Glob("../docs/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatalf("no documents: %v", err)
	}
	n := gosix(t)
	for _, file := range append(append(plugins, pages...), "../README.md", "../pkg/drivers/README.md") {
		for i, example := range blocks(t, file, "json") {
			n.must("PUT", place(t, example, fmt.Sprintf("%s-%d", filepath.Base(filepath.Dir(file)), i)), example.text)
		}
	}
	if rejected := n.config().Rejected; rejected != 0 {
		t.Errorf("%d are rejected: %s", rejected, do(t, "GET", "http://"+n.Control+"/v1/config/rejected", "").Text)
	}
	for line := range strings.Lines(n.log.String()) {
		if strings.Contains(line, "configuration store is away") || strings.Contains(line, `"part":"etcd"`) {
			continue // what an etcd without a processor leads to, and no example
		}
		if strings.Contains(line, `"level":"warn"`) || strings.Contains(line, `"level":"error"`) {
			t.Errorf("an example is accepted with a warning: %s", line)
		}
	}
}

var adminPath = regexp.MustCompile("`PUT /apisix/admin(/[^`]+)`")

// place is where an example is put: where the text before it says, else what its members tell.
func place(t *testing.T, example block, id string) string {
	t.Helper()
	if told := adminPath.FindStringSubmatch(example.before); told != nil {
		return told[1]
	}
	var item map[string]json.RawMessage
	if err := json.Unmarshal([]byte(example.text), &item); err != nil {
		t.Fatalf("%v\n%s", err, example.text)
	}
	switch {
	case item["username"] != nil:
		return "/consumers"
	case item["uri"] != nil || item["uris"] != nil:
		return "/routes/" + id
	}
	t.Fatalf("nothing says where this is put:\n%s", example.text)
	return ""
}

// The page's curl puts its first route.
func TestTheCurlOfThePageOfProvidersWorks(t *testing.T) {
	const page = "../docs/providers.md"
	n := gosix(t)
	keyFile(t, n)
	if err := os.WriteFile(filepath.Join(n.dir, "openai.json"), []byte(blocks(t, page, "json")[0].text), 0o600); err != nil {
		t.Fatal(err)
	}
	list := blocks(t, page, "sh")
	if len(list) != 1 {
		t.Fatalf("the page has %d curls, want 1", len(list))
	}
	if got := curl(t, n, "set -eu\n", addresses(n, "").Replace(list[0].text)); !strings.Contains(got, `"key":"/apisix/routes/openai"`) {
		t.Errorf("%s\nprints\n%s", list[0].text, got)
	}
}

// ways are a request in every protocol of clients, what an answer to it has, and how a
// stream of it ends; empty: it has none.
var ways = []struct{ protocol, path, body, want, end string }{
	{"openai-chat", "/v1/chat/completions", `"model":"m","messages":[{"role":"user","content":"hi"}]`, "I am the provider, and I hear: hi", "data: [DONE]"},
	{"openai-responses", "/v1/responses", `"model":"m","input":"hi"`, "I am the provider, and I hear: hi", "event: response.completed"},
	{"openai-embeddings", "/v1/embeddings", `"model":"m","input":"hi"`, `"embedding"`, ""},
	{"anthropic-messages", "/v1/messages", `"model":"m","max_tokens":99,"messages":[{"role":"user","content":"hi"}]`, "I am the provider, and I hear: hi", "event: message_stop"},
	{"bedrock-converse", "/model/m/converse", `"messages":[{"role":"user","content":[{"text":"hi"}]}]`, "I am the provider, and I hear: hi", "messageStop"},
}

// There is a route for each provider, and every route answers the clients that the page says
// reach its provider, and no others. Only the place is another one.
func TestProvidersOfThePageAnswer(t *testing.T) {
	t.Setenv("GCP_SERVICE_ACCOUNT", serviceAccount(t))
	llm := fakellm.New("the provider")
	addr := serve(t, llm)
	n := gosix(t)
	reach, seen := reachable(t), map[string]bool{}
	for i, example := range blocks(t, "../docs/providers.md", "json") {
		route, instances := elsewhere(t, example.text, addr)
		n.must("PUT", fmt.Sprintf("/routes/p%d", i), route.text)
		prefix, open := strings.CutSuffix(route.URI, "/*")
		provider, _ := instances[0]["provider"].(string)
		if prefix == "/"+provider {
			seen[provider] = true
		}
		for _, way := range ways {
			if !open && !strings.HasSuffix(route.URI, way.path) {
				continue // a route for one protocol
			}
			cell := reach[provider][way.protocol]
			t.Run(strings.Trim(route.URI, "/*")+" in "+way.protocol, func(t *testing.T) {
				// A route of one path has the prefix in it.
				path := strings.TrimSuffix(prefix, way.path) + way.path
				llm.Reset()
				a := n.ask("POST", path, "{"+way.body+"}", "Content-Type", "application/json")
				if cell == "—" {
					if a.StatusCode != http.StatusBadRequest || !strings.Contains(a.Text, "does not support") {
						t.Errorf("got %d %s, want a 400", a.StatusCode, a.Text)
					}
					return
				}
				if a.StatusCode != http.StatusOK || !strings.Contains(a.Text, way.want) {
					t.Fatalf("got %d %s, want %q in it", a.StatusCode, a.Text, way.want)
				}
				for _, r := range llm.Received() {
					authorised(t, instances[0], r.Header)
				}
				if way.end == "" {
					return
				}
				a = n.ask("POST", path, "{"+way.body+`,"stream":true}`, "Content-Type", "application/json")
				if a.StatusCode != http.StatusOK || a.Err != nil || !strings.Contains(a.Text, way.end) {
					t.Errorf("got %d, %v, %s, want %q in it", a.StatusCode, a.Err, a.Text, way.end)
				}
			})
		}
	}
	for _, name := range builtin.Drivers().Providers() {
		if !seen[name] {
			t.Errorf("there is no route for %s", name)
		}
	}
}

// reachable reads from the page what reaches a provider: cells by provider and protocol.
func reachable(t *testing.T) map[string]map[string]string {
	t.Helper()
	text, err := os.ReadFile("../docs/providers.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(text), "| Provider | `openai-chat` |")
	if !found {
		t.Fatal("the page does not say what reaches a provider")
	}
	table, _, _ = strings.Cut(table, "\n\n")
	lines := strings.Split("| Provider | `openai-chat` |"+table, "\n")
	all := map[string]map[string]string{}
	head := strings.Split(lines[0], " | ")
	for _, line := range lines[2:] {
		cells := strings.Split(strings.TrimSuffix(line, " |"), " | ")
		row := map[string]string{}
		for i := 1; i < len(cells); i++ {
			row[strings.Trim(head[i], "`| ")] = cells[i]
		}
		all[strings.Trim(cells[0], "`| ")] = row
	}
	return all
}

type movedRoute struct{ URI, text string }

// elsewhere puts an example's instances to another host, and returns them.
func elsewhere(t *testing.T, example, addr string) (movedRoute, []map[string]any) {
	t.Helper()
	var route map[string]any
	if err := json.Unmarshal([]byte(example), &route); err != nil {
		t.Fatal(err)
	}
	var instances []map[string]any
	plugins, _ := route["plugins"].(map[string]any)
	for _, p := range plugins {
		conf, _ := p.(map[string]any)
		list, several := conf["instances"].([]any)
		if !several {
			list = []any{conf}
		}
		for _, e := range list {
			i, _ := e.(map[string]any)
			override, _ := i["override"].(map[string]any)
			if override == nil {
				override = map[string]any{}
				i["override"] = override
			}
			was, _ := override["endpoint"].(string)
			u, err := url.Parse(was)
			if err != nil {
				t.Fatal(err)
			}
			u.Scheme, u.Host = "http", addr
			override["endpoint"] = u.String()
			instances = append(instances, i)
		}
	}
	text, err := json.Marshal(route)
	if err != nil {
		t.Fatal(err)
	}
	uri, _ := route["uri"].(string)
	return movedRoute{uri, string(text)}, instances
}

// authorised checks that a provider was shown an instance's credentials.
func authorised(t *testing.T, instance map[string]any, got http.Header) {
	t.Helper()
	auth, _ := instance["auth"].(map[string]any)
	header, _ := auth["header"].(map[string]any)
	for name, value := range header {
		if got.Get(name) != value {
			t.Errorf("%s is %q, want %q", name, got.Get(name), value)
		}
	}
	for kind, begins := range map[string]string{"gcp": "Bearer token-of-google", "aws": "AWS4-HMAC-SHA256 Credential=AKIAEXAMPLE/"} {
		if auth[kind] != nil && !strings.HasPrefix(got.Get("Authorization"), begins) {
			t.Errorf("with auth.%s Authorization is %q", kind, got.Get("Authorization"))
		}
	}
}

// serviceAccount is the key file of an account whose tokens a server of the test gives.
func serviceAccount(t *testing.T) string {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	tokens := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"access_token":"token-of-google","expires_in":3600}`))
	}))
	text, err := json.Marshal(map[string]string{
		"client_email": "account@example.com", "token_uri": "http://" + tokens,
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
