// Package openai is the driver for OpenAI and, by a table of differences, for everything
// that speaks like it. It knows their paths, members and streams; it does not choose, send
// or retry.
package openai

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"

	"github.com/gosix/gosix/pkg/drivers"
	"github.com/gosix/gosix/pkg/drivers/protocol"
	"github.com/gosix/gosix/pkg/exchange"
	"github.com/gosix/gosix/pkg/jsonedit"
	"github.com/gosix/gosix/pkg/upstream"
)

// differences are a provider's row in the table (spec/06 §A3).
type differences struct {
	host  string // empty: an endpoint must be configured
	paths map[protocol.ID]string
	// maxTokens is the member that limits the answer of a chat.
	maxTokens string
	// noModel: the body must not name a model.
	noModel bool
}

func chat(path string) map[protocol.ID]string {
	return map[protocol.ID]string{protocol.OpenAIChat: path}
}

var openAIPaths = map[protocol.ID]string{
	protocol.OpenAIChat:       "/v1/chat/completions",
	protocol.OpenAIResponses:  "/v1/responses",
	protocol.OpenAIEmbeddings: "/v1/embeddings",
}

var table = map[string]differences{
	"openai":            {host: "api.openai.com", paths: openAIPaths, maxTokens: "max_completion_tokens"},
	"openai-compatible": {paths: openAIPaths, maxTokens: "max_tokens"},
	"deepseek":          {host: "api.deepseek.com", paths: chat("/chat/completions"), maxTokens: "max_tokens"},
	"aimlapi":           {host: "api.aimlapi.com", paths: chat("/chat/completions"), maxTokens: "max_tokens"},
	"openrouter":        {host: "openrouter.ai", paths: chat("/api/v1/chat/completions"), maxTokens: "max_tokens"},
	"azure-openai":      {paths: chat("/completions"), maxTokens: "max_tokens", noModel: true},
	"gemini":            {host: "generativelanguage.googleapis.com", paths: chat("/v1beta/openai/chat/completions"), maxTokens: "max_completion_tokens"},
	"anthropic":         {host: "api.anthropic.com", paths: chat("/v1/chat/completions"), maxTokens: "max_tokens"},
}

// Providers returns a driver for every provider of the table.
func Providers() map[string]drivers.Driver {
	all := make(map[string]drivers.Driver, len(table))
	for name, row := range table {
		all[name] = &driver{name, row}
	}
	return all
}

type driver struct {
	name string
	differences
}

func (d *driver) Native() []protocol.ID {
	native := []protocol.ID{protocol.OpenAIChat}
	for _, id := range []protocol.ID{protocol.OpenAIResponses, protocol.OpenAIEmbeddings} {
		if d.paths[id] != "" {
			native = append(native, id)
		}
	}
	return native
}

func (d *driver) Endpoint() drivers.Endpoint { return drivers.Endpoint{Host: d.host} }

// ErrNoPath is a call for which neither the instance nor the provider has a path.
var ErrNoPath = errors.New("could not resolve upstream path: ensure the route or request body specifies a model, " +
	"or that override.endpoint includes a path")

func (d *driver) Request(c *drivers.Call) (*upstream.Request, error) {
	i := c.Instance
	path := i.Path
	switch {
	case c.Protocol == protocol.Passthrough && path == "":
		path = (&url.URL{Path: c.Request.Path}).EscapedPath()
	case c.Protocol != protocol.Passthrough && d.paths[c.Protocol] == "":
		return nil, &drivers.UnsupportedError{Provider: d.name, Protocol: c.Protocol, Supported: d.Native()}
	case path == "":
		path = d.paths[c.Protocol]
	}
	if path == "" {
		return nil, ErrNoPath
	}
	body, err := d.body(c)
	if err != nil {
		return nil, err
	}
	r := &upstream.Request{
		Target: i.Target, Timeouts: i.Timeouts, Method: http.MethodPost, Host: i.Host, Header: d.header(c), Body: body,
	}
	query := i.Query
	if c.Protocol == protocol.Passthrough {
		r.Method, query = c.Request.Method, i.WithClientQuery(c.Request.RawQuery)
	}
	r.Path = path
	if query != "" {
		r.Path += "?" + query
	}
	return r, nil
}

// Sign does nothing: credentials are headers that do not change.
func (d *driver) Sign(context.Context, *drivers.Call, *upstream.Request) error { return nil }

// body is the client's body with the instance's members spliced in (spec/06 §A5.3). What is
// not named keeps its bytes.
func (d *driver) body(c *drivers.Call) ([][]byte, error) {
	i, doc := c.Instance, c.Body
	if doc.Kind() != jsonedit.Object {
		return [][]byte{doc.Bytes()}, nil
	}
	var inline [12]jsonedit.Edit
	edits := inline[:0]
	if i.Usage && c.Protocol == protocol.OpenAIChat && streams(doc) {
		edits = set(edits, "stream_options", includeUsage)
	}
	for _, o := range i.Options {
		edits = set(edits, o.Name, o.Value)
	}
	if i.MaxTokens != nil {
		switch {
		case c.Protocol == protocol.OpenAIResponses:
			edits = set(edits, "max_output_tokens", i.MaxTokens)
		case c.Protocol == protocol.OpenAIChat:
			edits = set(edits, d.maxTokens, i.MaxTokens)
			if d.maxTokens != "max_tokens" {
				edits = remove(edits, doc, "max_tokens")
			}
		}
	}
	if patch := i.Bodies[c.Protocol]; patch != nil {
		var err error
		if edits, err = fill(edits, doc, patch, i.Force); err != nil {
			return nil, err
		}
	}
	if d.noModel {
		edits = remove(edits, doc, "model")
	}
	if len(edits) == 0 {
		return [][]byte{doc.Bytes()}, nil
	}
	return doc.Splice(nil, edits), nil
}

var includeUsage = []byte(`{"include_usage":true}`)

// streams reports whether a body asks for a stream in the reference's eyes, to which
// whatever is neither false nor null is true (recorded).
func streams(doc *jsonedit.Doc) bool {
	raw, kind, ok := doc.Get("stream")
	return ok && kind != jsonedit.Null && (kind != jsonedit.Bool || raw[0] == 't')
}

// set adds an edit, or replaces the one of that name.
func set(edits []jsonedit.Edit, name string, value []byte) []jsonedit.Edit {
	if n := index(edits, name); n >= 0 {
		edits[n].Value = value
		return edits
	}
	return append(edits, jsonedit.Edit{Name: name, Value: value})
}

// remove takes a member out, whether the client or an edit put it in. Where neither did
// nothing is edited, so that the body stays as it came.
func remove(edits []jsonedit.Edit, doc *jsonedit.Doc, name string) []jsonedit.Edit {
	if doc.Has(name) {
		return set(edits, name, nil)
	}
	if n := index(edits, name); n >= 0 {
		return slices.Delete(edits, n, n+1)
	}
	return edits
}

func index(edits []jsonedit.Edit, name string) int {
	return slices.IndexFunc(edits, func(e jsonedit.Edit) bool { return e.Name == name })
}

// fill adds the edits of a configured body: objects are filled member by member; anything
// else is set where it is absent, or always when forced.
func fill(edits []jsonedit.Edit, doc *jsonedit.Doc, patch []byte, force bool) ([]jsonedit.Edit, error) {
	err := jsonedit.Members(patch, func(name string, value []byte, kind jsonedit.Kind) error {
		before, was, there := doc.Get(name)
		if n := index(edits, name); n >= 0 {
			before = edits[n].Value
			was, there = kindOf(before), before != nil
		}
		switch {
		case there && kind == jsonedit.Object && was == jsonedit.Object:
			inner, err := filled(before, value, force)
			if err != nil {
				return err
			}
			edits = set(edits, name, inner)
		case !there || force:
			edits = set(edits, name, value)
		}
		return nil
	})
	return edits, err
}

func filled(object, patch []byte, force bool) ([]byte, error) {
	doc, err := jsonedit.Index(object, jsonedit.Options{MaxDepth: trustedDepth})
	if err != nil {
		return nil, err
	}
	edits, err := fill(nil, doc, patch, force)
	if err != nil {
		return nil, err
	}
	return jsonedit.Join(doc.Splice(nil, edits)), nil
}

func kindOf(raw []byte) jsonedit.Kind {
	if len(raw) > 0 && raw[0] == '{' {
		return jsonedit.Object
	}
	return jsonedit.Invalid
}

// header is what the provider is told (spec/00 4, spec/06 §A5.6).
func (d *driver) header(c *drivers.Call) *exchange.Header {
	i := c.Instance
	h := &exchange.Header{}
	in := &c.Request.Header
	named := in.Has("Connection")
	for _, f := range in.Fields() {
		if named && in.NamedByConnection(f.Name) || configured(i, f.Name) {
			continue
		}
		switch credential, private := classify(f.Name); {
		case private, credential && i.Credentials, !credential && !i.Forward:
			continue
		}
		h.Add(f.Name, f.Value)
	}
	for _, f := range i.Header {
		h.Add(f.Name, f.Value)
	}
	h.Add("Content-Type", "application/json")
	return h
}

func configured(i *drivers.Instance, name string) bool {
	for _, f := range i.Header {
		if exchange.EqualName(f.Name, name) {
			return true
		}
	}
	return false
}

// classify tells what a client's header is: a credential, which only goes along to
// instances that have none of their own, or private to this hop or gateway.
func classify(name string) (credential, private bool) {
	for _, n := range credentials {
		if exchange.EqualName(n, name) {
			return true, false
		}
	}
	if exchange.HopByHop(name) {
		return false, true
	}
	for _, n := range notForwarded {
		if exchange.EqualName(n, name) {
			return false, true
		}
	}
	return false, prefixed(name, "X-Consumer-") || prefixed(name, "X-Forwarded-")
}

func prefixed(name, prefix string) bool {
	return len(name) > len(prefix) && exchange.EqualName(name[:len(prefix)], prefix)
}

var (
	credentials  = []string{"Authorization", "X-API-Key", "API-Key", "APIKey", "Cookie", "Proxy-Authorization"}
	notForwarded = []string{
		"Host", "Content-Length", "Content-Type", "Accept-Encoding", "Expect", "Forwarded", "X-Real-IP",
		"X-Credential-Identifier",
	}
)
