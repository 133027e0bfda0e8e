package builtin

import (
	"encoding/json"
	"os"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gosix/gosix/pkg/drivers"
	"github.com/gosix/gosix/pkg/drivers/convert"
	"github.com/gosix/gosix/pkg/drivers/protocol"
	"github.com/gosix/gosix/pkg/exchange"
	"github.com/gosix/gosix/pkg/jsonedit"
)

const providersPage = "../../docs/providers.md"

// tables returns the tables of a page that follow each other: their lines but the second,
// cut into cells.
func tables(t *testing.T, file string) (all [][][]string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var current [][]string
	for line := range strings.Lines(string(text) + "\n") {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "|---"):
		case strings.HasPrefix(line, "|"):
			cells := strings.Split(strings.Trim(line, "|"), "|")
			for i := range cells {
				cells[i] = strings.TrimSpace(cells[i])
			}
			current = append(current, cells)
		case current != nil:
			all = append(all, current)
			current = nil
		}
	}
	return all
}

// tableOf finds the table whose first line begins with those cells.
func tableOf(t *testing.T, file string, head ...string) [][]string {
	t.Helper()
	for _, table := range tables(t, file) {
		if len(table[0]) >= len(head) && slices.Equal(table[0][:len(head)], head) {
			return table
		}
	}
	t.Fatalf("%s has no table that begins with %q", file, head)
	return nil
}

func code(s string) string { return "`" + s + "`" }

// clients are the protocols that clients speak.
var clients = []protocol.ID{
	protocol.OpenAIChat, protocol.OpenAIResponses, protocol.OpenAIEmbeddings, protocol.AnthropicMessages, protocol.BedrockConverse,
}

// rows are the lines of a table behind its first, without regard to their order.
func rows(table [][]string) [][]string {
	list := slices.Clone(table)
	sort.Slice(list[1:], func(i, j int) bool { return strings.Join(list[i+1], "|") < strings.Join(list[j+1], "|") })
	return list
}

func TestThePageSaysWhichClientsReachWhichProvider(t *testing.T) {
	head := []string{"Provider"}
	for _, from := range clients {
		head = append(head, code(string(from)))
	}
	want := [][]string{head}
	for _, name := range Drivers().Providers() {
		d, _ := Drivers().Get(name)
		row := []string{code(name)}
		for _, from := range clients {
			cell := "—"
			if way, ok := convert.Find(from, d.Native()); slices.Contains(d.Native(), from) {
				cell = "native"
			} else if ok {
				cell = "as " + code(string(way.To))
			}
			row = append(row, cell)
		}
		want = append(want, row)
	}
	if diff := cmp.Diff(rows(want), rows(tableOf(t, providersPage, head[:2]...))); diff != "" {
		t.Error(diff)
	}
}

func TestThePageSaysWhatIsConverted(t *testing.T) {
	to := []protocol.ID{
		protocol.OpenAIChat, protocol.OpenAIResponses, protocol.AnthropicMessages, protocol.BedrockConverse, protocol.GeminiGenerate,
		protocol.VertexPredict,
	}
	head := []string{"Client"}
	for _, id := range to {
		head = append(head, code(string(id)))
	}
	want := [][]string{head}
	for _, from := range clients {
		row := []string{code(string(from))}
		for _, id := range to {
			cell := "—"
			if _, ok := convert.Find(from, []protocol.ID{id}); from == id {
				cell = "itself"
			} else if ok {
				cell = "converted"
			}
			row = append(row, cell)
		}
		want = append(want, row)
	}
	if diff := cmp.Diff(rows(want), rows(tableOf(t, providersPage, "Client"))); diff != "" {
		t.Error(diff)
	}
}

func TestThePageSaysWhatAProviderIsAsked(t *testing.T) {
	head := []string{"Provider", "Protocol", "Host", "Path", "The model is in", "Limit of the answer"}
	want := [][]string{head}
	for _, name := range Drivers().Providers() {
		d, _ := Drivers().Get(name)
		where := drivers.Where{Project: "PROJECT", Region: "REGION"}
		host := "of the endpoint"
		if h := d.Endpoint(where).Host; h != "" {
			host = code(h)
		}
		for _, id := range d.Native() {
			path, body := asked(t, d, id, where, false)
			streams, _ := asked(t, d, id, where, true)
			cell := code(path)
			if streams != path {
				cell += ", streams " + code(streams)
			}
			model := "endpoint"
			switch {
			case strings.Contains(path, "MODEL"):
				model = "path"
			case body["model"] != nil:
				model = "body"
			}
			delete(body, "model")
			want = append(want, []string{code(name), code(string(id)), host, cell, model, limit(t, body)})
		}
	}
	if diff := cmp.Diff(rows(want), rows(tableOf(t, providersPage, head[:2]...))); diff != "" {
		t.Error(diff)
	}
}

// asked is the path and the body of a request for MODEL with a limit of 7 tokens.
func asked(t *testing.T, d drivers.Driver, id protocol.ID, where drivers.Where, stream bool) (string, map[string]any) {
	t.Helper()
	doc, err := jsonedit.Index([]byte(`{"model":"MODEL"}`), jsonedit.Options{})
	if err != nil {
		t.Fatal(err)
	}
	i := &drivers.Instance{Driver: d, Where: where, MaxTokens: []byte("7")}
	r, err := d.Request(&drivers.Call{Instance: i, Body: doc, Protocol: id, Target: id, Model: "MODEL", Stream: stream, Request: &exchange.Request{}})
	if err != nil {
		t.Fatal(err)
	}
	var body map[string]any
	if err := json.Unmarshal(jsonedit.Join(r.Body), &body); err != nil {
		t.Fatal(err)
	}
	return r.Path, body
}

// limit names the member in which the limit stands.
func limit(t *testing.T, body map[string]any) string {
	t.Helper()
	for name, v := range body {
		if inner, ok := v.(map[string]any); ok {
			for member := range inner {
				return code(name + "." + member)
			}
		}
		if v != 7.0 {
			t.Fatalf("the limit is not in %v", body)
		}
		return code(name)
	}
	return "none"
}
