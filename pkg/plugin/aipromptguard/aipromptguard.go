// Package aipromptguard is the plugin ai-prompt-guard: it refuses requests to language
// models by patterns over what they say. Where a protocol has its texts it does not know.
package aipromptguard

import (
	"bytes"
	_ "embed"
	"errors"
	"net/http"
	"strings"

	"github.com/gosix/gosix/pkg/drivers/protocol"
	"github.com/gosix/gosix/pkg/exchange"
	"github.com/gosix/gosix/pkg/expr"
	"github.com/gosix/gosix/pkg/jsonedit"
	"github.com/gosix/gosix/pkg/plugin"
	"github.com/gosix/gosix/pkg/prompt"
)

//go:embed schema.json
var schema []byte

const name = "ai-prompt-guard"

// Definition is the plugin. depth is that of JSON in request bodies, 0: 64.
func Definition(depth int) plugin.Definition {
	return plugin.Definition{
		Name: name, Version: "0.1", Priority: 1072, Schema: schema,
		New: func(b *plugin.Build) (plugin.Phases, error) {
			g := &guard{depth: depth}
			return plugin.Phases{Access: g.access}, g.read(b.Conf)
		},
	}
}

type guard struct {
	conf
	depth       int
	allow, deny []pattern
}

type conf struct {
	Limit    int64    `json:"max_req_body_size"` // bytes of a body
	AllRoles bool     `json:"match_all_roles"`
	History  bool     `json:"match_all_conversation_history"`
	Allow    []string `json:"allow_patterns"`
	Deny     []string `json:"deny_patterns"`
	FailMode string   `json:"fail_mode"`
}

type pattern struct {
	source string
	find   func(string) (bool, error)
}

func (g *guard) read(raw []byte) (err error) {
	if err := plugin.Decode(raw, &g.conf); err != nil {
		return err
	}
	if g.allow, err = patterns("allow_pattern", g.Allow); err == nil {
		g.deny, err = patterns("deny_pattern", g.Deny)
	}
	return err
}

// patterns compiles a list; the words of an error are the reference's.
func patterns(what string, sources []string) ([]pattern, error) {
	all := make([]pattern, len(sources))
	for i, source := range sources {
		find, err := expr.CompilePattern(source, false)
		if err != nil {
			return nil, errors.New("invalid " + what + ": " + source)
		}
		all[i] = pattern{source, find}
	}
	return all, nil
}

func refusal(text string) *plugin.ExitError {
	return plugin.Exit(http.StatusBadRequest, prompt.Refusal{Message: text})
}

func (g *guard) access(x *plugin.Context) error {
	body, err := x.Request.Body.Bytes(g.Limit)
	if large, ok := errors.AsType[*exchange.TooLargeError](err); ok {
		return refusal("could not get body: " + large.Error())
	}
	if err != nil || len(body) == 0 {
		return &plugin.ExitError{Status: http.StatusBadRequest, Body: prompt.Refusal{Message: "Empty request body"}, Err: err}
	}
	doc, err := x.Request.Body.JSON(g.Limit, prompt.Options(g.depth))
	if err != nil {
		// Another reader may take for JSON what we do not, such as an object that has a
		// member twice: it must not get past the patterns that way.
		if looksLikeJSON(body) {
			return refusal(err.Error())
		}
		return g.unsupported(x, "request body is not valid JSON: "+err.Error(), err.Error())
	}
	id, known := protocol.Detect(x.Request.Path, doc)
	if !known || id == protocol.Passthrough {
		return g.unsupported(x, "request body does not match any supported AI protocol", "Request format not recognized by "+name)
	}
	text, some := g.text(id, doc)
	if !some {
		return nil // spec/07 §3: gosix lets it through
	}
	return g.judge(x, text)
}

func looksLikeJSON(body []byte) bool {
	body = bytes.TrimLeft(body, " \t\r\n")
	return len(body) > 0 && (body[0] == '{' || body[0] == '[')
}

// unsupported decides about a request that the plugin cannot treat (spec/07 §0).
func (g *guard) unsupported(x *plugin.Context, reason, answer string) error {
	switch g.FailMode {
	case "error":
		return refusal(answer)
	case "warn":
		x.Log.Warn().Str("route", x.Route.RouteID).Str("request", x.ID).Msg(name + " skipped: " + printable(reason))
	default:
		x.Log.Info().Str("route", x.Route.RouteID).Str("request", x.ID).Msg(name + " skipped: " + printable(reason))
	}
	return nil
}

// printable is a text that a client has a part in, as logs may show it.
func printable(s string) string {
	const limit = 256 // bytes
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
	return s[:min(len(s), limit)]
}

// text is what is judged; false if there is nothing.
func (g *guard) text(id protocol.ID, doc *jsonedit.Doc) (string, bool) {
	said := prompt.Messages(id, doc)
	// Instructions and input of a response are no history of one another.
	if !g.History && id != protocol.OpenAIResponses && len(said) > 1 {
		said = said[len(said)-1:]
	}
	var texts []string
	for _, m := range said {
		if g.AllRoles || m.Role == "user" {
			texts = append(texts, m.Text)
		}
	}
	return strings.Join(texts, " "), len(texts) > 0
}

// judge asks the patterns. One that cannot tell in time counts against the request.
func (g *guard) judge(x *plugin.Context, text string) error {
	allowed := len(g.allow) == 0
	for i := range g.allow {
		if allowed = found(x, &g.allow[i], text, false); allowed {
			break
		}
	}
	if !allowed {
		return refusal("Request doesn't match allow patterns")
	}
	for i := range g.deny {
		if found(x, &g.deny[i], text, true) {
			return refusal("Request contains prohibited content")
		}
	}
	return nil
}

func found(x *plugin.Context, p *pattern, text string, otherwise bool) bool {
	found, err := p.find(text)
	if err != nil {
		x.Log.Error().Str("plugin", name).Str("route", x.Route.RouteID).Str("pattern", p.source).Str("request", x.ID).
			Msg("pattern took too long")
		return otherwise
	}
	return found
}
