package t

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/gosix/gosix/pkg/builtin"
	"github.com/gosix/gosix/pkg/drivers/convert"
	"github.com/gosix/gosix/pkg/drivers/protocol"
	"github.com/gosix/gosix/t/fakellm"
)

// clients are the protocols of the table in docs/providers.md.
var clients = []protocol.ID{
	protocol.OpenAIChat, protocol.OpenAIResponses, protocol.OpenAIEmbeddings, protocol.AnthropicMessages, protocol.BedrockConverse,
}

// reach is the table of which clients reach which provider.
func reach(t *testing.T) string {
	t.Helper()
	head, line := "| Provider |", "|---|"
	for _, id := range clients {
		head += " `" + string(id) + "` |"
		line += "---|"
	}
	table := head + "\n" + line + "\n"
	for _, name := range builtin.Drivers().Providers() {
		d, _ := builtin.Drivers().Get(name)
		table += "| `" + name + "` |"
		for _, id := range clients {
			cell := "no"
			if slices.Contains(d.Native(), id) {
				cell = "native"
			} else if way, ok := convert.Find(id, d.Native()); ok {
				cell = "`" + string(way.To) + "`"
			}
			table += " " + cell + " |"
		}
		table += "\n"
	}
	return table
}

func TestProvidersAreReachedAsTheirPageSays(t *testing.T) {
	raw, err := os.ReadFile("../docs/providers.md")
	if err != nil {
		t.Fatal(err)
	}
	if table := reach(t); !strings.Contains(string(raw), table) {
		t.Errorf("docs/providers.md does not have this table:\n%s", table)
	}
	n := gosix(t)
	llm := serve(t, fakellm.New("owl"))
	blocks := regexp.MustCompile("(?s)```json\n(.*?)```").FindAllStringSubmatch(string(raw), -1)
	var seen []string
	for _, block := range blocks {
		var route struct {
			URI     string
			Plugins map[string]struct {
				Provider string
				Override struct{ Endpoint string }
			}
		}
		if err := json.Unmarshal([]byte(block[1]), &route); err != nil {
			t.Fatalf("%v\n%s", err, block[1])
		}
		conf := route.Plugins["ai-proxy"]
		seen = append(seen, conf.Provider)
		t.Run(conf.Provider, func(t *testing.T) {
			path := "/routes/" + conf.Provider
			n.must(http.MethodPut, path, block[1])
			// The provider is a fake one; an endpoint keeps what follows its address.
			endpoint, err := url.Parse(conf.Override.Endpoint)
			if err != nil {
				t.Fatal(err)
			}
			endpoint.Scheme, endpoint.Host = "http", llm
			change := fmt.Sprintf(`{"plugins":{"ai-proxy":{"override":{"endpoint":%q}`, endpoint)
			if strings.Contains(block[1], `"gcp"`) {
				change += `,"auth":{"gcp":null,"header":{"Authorization":"Bearer token"}}`
			}
			n.must(http.MethodPatch, path, change+"}}}")
			got := n.ask(http.MethodPost, route.URI, `{"messages":[{"role":"user","content":"hi"}]}`, "Content-Type", "application/json")
			if got.StatusCode != http.StatusOK || !strings.Contains(got.Text, "I am owl, and I hear: hi") {
				t.Errorf("got %d %s", got.StatusCode, got.Text)
			}
		})
	}
	slices.Sort(seen)
	if all := builtin.Drivers().Providers(); !slices.Equal(seen, all) {
		t.Errorf("the page has routes for %q, want %q", seen, all)
	}
}

// Every example of the plugins' documents is what the Admin API takes.
func TestExamplesOfPluginsAreAccepted(t *testing.T) {
	files, err := filepath.Glob("../pkg/plugin/*/README.md")
	if err != nil || len(files) == 0 {
		t.Fatalf("no documents of plugins (%v)", err)
	}
	n := gosix(t)
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for i, block := range regexp.MustCompile("(?s)```json\n(.*?)```").FindAllStringSubmatch(string(raw), -1) {
			var item map[string]json.RawMessage
			if err := json.Unmarshal([]byte(block[1]), &item); err != nil {
				t.Errorf("%s: %v\n%s", file, err, block[1])
				continue
			}
			path := ""
			switch {
			case item["uri"] != nil || item["uris"] != nil:
				path = "/routes/example"
			case item["username"] != nil:
				path = "/consumers"
			case item["plugins"] != nil:
				path = "/global_rules/example"
			default:
				continue // a request's body, a plugin's metadata
			}
			if got := n.admin(http.MethodPut, path, block[1]); got.StatusCode >= 300 {
				t.Errorf("%s, example %d: %d %s", file, i+1, got.StatusCode, got.Text)
			}
		}
	}
}
