// Package prompt is what plugins that look at prompts share: reading a request's body, the
// texts in it, and putting messages around them, in each of the protocols in which clients
// talk to language models. It does not know what a plugin looks for, nor providers.
package prompt

import (
	"errors"
	"net/http"
	"strings"

	"github.com/gosix/gosix/pkg/drivers/protocol"
	"github.com/gosix/gosix/pkg/exchange"
	"github.com/gosix/gosix/pkg/jsonedit"
	"github.com/gosix/gosix/pkg/plugin"
)

// Refusal is the body of an answer to a request that cannot be used.
type Refusal struct {
	Message string `json:"message"`
}

// Options are those by which the body of a request to a language model is read: whoever
// reads it with the same depth (0: 64 containers) shares one index. A member that occurs
// twice is refused, since others may take the other one (spec/00 7).
func Options(depth int) jsonedit.Options { return jsonedit.Options{MaxDepth: depth, Duplicates: true} }

// Read returns a request's body of at most limit bytes, or what to answer (spec/07 §1).
func Read(q *exchange.Request, limit int64, depth int) (*jsonedit.Doc, error) {
	switch body, err := q.Body.Bytes(limit); {
	case err != nil:
		return nil, &plugin.ExitError{Status: http.StatusBadRequest, Body: Refusal{"could not get body: " + err.Error()}, Err: err}
	case len(body) == 0:
		return nil, plugin.Exit(http.StatusBadRequest, Refusal{"could not get body: request body is empty"})
	}
	doc, err := q.Body.JSON(limit, Options(depth))
	if err == nil && doc.Kind() != jsonedit.Object && doc.Kind() != jsonedit.Array {
		err = errors.New("neither an object nor an array")
	}
	if err != nil {
		return nil, plugin.Exit(http.StatusBadRequest, Refusal{"could not parse JSON request body: " + err.Error()})
	}
	return doc, nil
}

// Message is what somebody says: the texts of one message, joined by a space.
type Message struct{ Role, Text string }

// Messages lists what a request says, in its order, instructions first. What has no text,
// such as a message that is an image, is left out. Of passthrough there is nothing.
func Messages(id protocol.ID, body *jsonedit.Doc) (all []Message) {
	switch id {
	case protocol.OpenAIChat:
		return messages(all, body, "messages", "")
	case protocol.AnthropicMessages, protocol.BedrockConverse:
		return messages(alone(all, body, "system", "system"), body, "messages", "")
	case protocol.OpenAIResponses:
		return messages(alone(all, body, "instructions", "system"), body, "input", "user")
	case protocol.OpenAIEmbeddings:
		return alone(all, body, "input", "user")
	}
	return nil
}

// alone adds a member that is one message: a text, or a list of texts.
func alone(all []Message, body *jsonedit.Doc, member, role string) []Message {
	raw, kind, _ := body.Get(member)
	if text, ok := content(raw, kind); ok {
		all = append(all, Message{role, text})
	}
	return all
}

// messages adds a member that is a list of messages, or one text. Those that do not say
// whose they are have the role given.
func messages(all []Message, body *jsonedit.Doc, member, role string) []Message {
	raw, kind, _ := body.Get(member)
	if kind == jsonedit.String {
		return append(all, Message{role, unquote(raw)})
	}
	if kind != jsonedit.Array {
		return all
	}
	_ = jsonedit.Elements(raw, func(_ int, e []byte, kind jsonedit.Kind) error {
		if kind == jsonedit.String && role != "" {
			all = append(all, Message{role, unquote(e)})
		}
		if kind != jsonedit.Object {
			return nil
		}
		m, said := Message{Role: role}, false
		_ = jsonedit.Members(e, func(name string, v []byte, kind jsonedit.Kind) error {
			switch {
			case name == "role" && kind == jsonedit.String:
				m.Role = unquote(v)
			case name == "content":
				m.Text, said = content(v, kind)
			}
			return nil
		})
		if said {
			all = append(all, m)
		}
		return nil
	})
	return all
}

// content is a text, or the texts among parts; false if there is none.
func content(raw []byte, kind jsonedit.Kind) (string, bool) {
	switch kind {
	case jsonedit.String:
		return unquote(raw), true
	case jsonedit.Array:
	default:
		return "", false
	}
	var texts []string
	_ = jsonedit.Elements(raw, func(_ int, part []byte, kind jsonedit.Kind) error {
		if kind == jsonedit.String {
			texts = append(texts, unquote(part))
		}
		if kind != jsonedit.Object {
			return nil
		}
		text, is, texty := "", false, true
		_ = jsonedit.Members(part, func(name string, v []byte, kind jsonedit.Kind) error {
			switch {
			case name == "text" && kind == jsonedit.String:
				text, is = unquote(v), true
			case name == "type" && kind == jsonedit.String:
				t := unquote(v)
				texty = t == "text" || t == "input_text" || t == "output_text"
			}
			return nil
		})
		if is && texty {
			texts = append(texts, text)
		}
		return nil
	})
	return strings.Join(texts, " "), len(texts) > 0
}

// unquote is for strings of a document that was indexed: they are good.
func unquote(raw []byte) string {
	s, _ := jsonedit.Unquote(raw)
	return s
}
