package drivers

import (
	"strings"

	"github.com/gosix/gosix/pkg/drivers/protocol"
	"github.com/gosix/gosix/pkg/exchange"
)

// header makes what the provider is told (spec/00 4, spec/06 §A5.6) in the call's memory. What
// the instance says itself comes first: that may be laid out already.
func header(c *Call) *exchange.Header {
	i := c.Instance
	h := &c.room.header
	h.Reset()
	if i.lines != nil {
		h.Append(i.lines.Fields())
	} else {
		h.Append(i.Header)
		h.Append([]exchange.Field{contentType})
	}
	in := &c.Request.Header
	named := in.Has("Connection")
	key := translated(c)
	fields := in.Fields()
	for n := range fields {
		f := &fields[n]
		if named && in.NamedByConnection(f.Name) || configured(i, f.Name) {
			continue
		}
		switch credential, private := classify(f.Name); {
		case private, credential && i.Credentials, !credential && !i.Forward:
			continue
		case key != nil && key.drops(f.Name):
			continue
		}
		h.Add(f.Name, f.Value)
	}
	if key != nil {
		key.add(h, c)
	}
	return h
}

// dialect is how a client's own headers get from one family of protocols to another.
type dialect struct {
	key, prefix string // where the client has its key, and what precedes it there; empty: it stays there
	to, put     string // where the provider looks for one, and what precedes it there
	foreign     []string
	version     bool // the provider asks for the version of its protocol
}

var (
	// fromAnthropic is for a client of Anthropic's at any other provider.
	fromAnthropic = &dialect{key: "X-API-Key", to: "Authorization", put: "Bearer ", foreign: []string{"anthropic-", "x-stainless-"}}
	// toAnthropic is for any other client there.
	toAnthropic = &dialect{
		key: "Authorization", prefix: "Bearer ", to: "X-API-Key", foreign: []string{"openai-", "x-stainless-"}, version: true,
	}
	// toOthers is for clients of OpenAI's at providers that speak the protocol of neither.
	toOthers = &dialect{foreign: []string{"openai-", "anthropic-", "x-stainless-"}}
	// fromAnthropicToOthers is for those of Anthropic's there.
	fromAnthropicToOthers = &dialect{key: fromAnthropic.key, to: fromAnthropic.to, put: fromAnthropic.put, foreign: toOthers.foreign}
)

// translated returns how headers change on a call's way; nil: they do not.
func translated(c *Call) *dialect {
	others := false
	switch c.Target {
	case protocol.BedrockConverse, protocol.GeminiGenerate, protocol.VertexPredict:
		others = true
	}
	switch {
	case c.Answer == nil:
		return nil
	case others && c.Protocol == protocol.AnthropicMessages:
		return fromAnthropicToOthers
	case others:
		return toOthers
	case c.Protocol == protocol.AnthropicMessages:
		return fromAnthropic
	case c.Target == protocol.AnthropicMessages:
		return toAnthropic
	}
	return nil
}

func (d *dialect) drops(name string) bool {
	if exchange.EqualName(name, d.key) {
		return true
	}
	for _, p := range d.foreign {
		if prefixed(name, p) {
			return true
		}
	}
	return false
}

// add gives the provider the client's key where it has none, and what it cannot do without.
func (d *dialect) add(h *exchange.Header, c *Call) {
	if d.to != "" && !c.Instance.Credentials && !h.Has(d.to) {
		if key, ok := strings.CutPrefix(c.Request.Header.Get(d.key), d.prefix); ok && key != "" {
			h.Add(d.to, d.put+key)
		}
	}
	if d.version && !h.Has("Anthropic-Version") {
		h.Add("Anthropic-Version", anthropicVersion)
	}
}

// anthropicVersion is the version of the protocol that conversions write.
const anthropicVersion = "2023-06-01"

func configured(i *Instance, name string) bool {
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
	// By length: most names are as long as one or two of these.
	is := exchange.EqualName
	switch len(name) {
	case 4:
		private = is(name, "Host")
	case 6:
		credential, private = is(name, "APIKey") || is(name, "Cookie"), is(name, "Expect")
	case 7:
		credential = is(name, "API-Key")
	case 9:
		credential, private = is(name, "X-API-Key"), is(name, "Forwarded") || is(name, "X-Real-IP")
	case 12:
		private = is(name, "Content-Type")
	case 13:
		credential = is(name, "Authorization")
	case 14:
		private = is(name, "Content-Length")
	case 15:
		private = is(name, "Accept-Encoding")
	case 19:
		credential = is(name, "Proxy-Authorization")
	case 23:
		private = is(name, "X-Credential-Identifier")
	}
	if credential || private || exchange.HopByHop(name) {
		return credential, !credential
	}
	return false, len(name) > 2 && name[0]|0x20 == 'x' && (prefixed(name, "X-Consumer-") || prefixed(name, "X-Forwarded-"))
}

func prefixed(name, prefix string) bool {
	return len(name) > len(prefix) && exchange.EqualName(name[:len(prefix)], prefix)
}
