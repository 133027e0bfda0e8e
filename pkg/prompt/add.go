package prompt

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/gosix/gosix/pkg/drivers/protocol"
	"github.com/gosix/gosix/pkg/jsonedit"
)

// Addition is a message that is put into requests. The zero value is not usable.
type Addition struct {
	system    bool
	text      string
	whole     []byte // as it is configured
	plain     []byte // with its role and text alone
	converse  []byte // as bedrock-converse has it; of a system message, the block
	converses string // the member of bedrock-converse that it goes to
}

// NewAddition reads a configured message, an object with role and content.
func NewAddition(raw json.RawMessage) (a Addition, err error) {
	doc, err := jsonedit.IndexTrusted(raw)
	if err != nil {
		return a, err
	}
	role, _ := doc.String("role")
	text, ok := doc.String("content")
	if !ok {
		return a, errors.New("a message has no content")
	}
	a.system, a.text, a.whole = role == "system", text, raw
	quoted := jsonedit.AppendQuote(nil, text)
	who := jsonedit.AppendQuote(nil, role)
	a.plain = fmt.Appendf(nil, `{"role":%s,"content":%s}`, who, quoted)
	a.converse, a.converses = fmt.Appendf(nil, `{"role":%s,"content":[{"text":%s}]}`, who, quoted), "messages"
	if a.system {
		a.converse, a.converses = fmt.Appendf(nil, `{"text":%s}`, quoted), "system"
	}
	return a, nil
}

// NotAListError is a member of a request that messages cannot be added to.
type NotAListError struct{ Member string }

func (e *NotAListError) Error() string { return e.Member + " is not a list" }

// Surround returns a request's body with messages before and behind what it says. Members
// that are not concerned keep their bytes. A body in no known protocol is taken for a chat;
// embeddings and passthrough have no place for messages and stay as they are (spec/07 §2).
func Surround(id protocol.ID, body *jsonedit.Doc, before, behind []Addition) ([]byte, error) {
	var edits []jsonedit.Edit
	var err error
	switch id {
	case protocol.OpenAIEmbeddings, protocol.Passthrough:
		return body.Bytes(), nil
	case protocol.OpenAIResponses:
		edits = responses(body, before, behind)
	case protocol.BedrockConverse:
		if edits, err = list(edits, body, "system", true, each(before, "system", converse), each(behind, "system", converse)); err == nil {
			edits, err = list(edits, body, "messages", false, each(before, "messages", converse), each(behind, "messages", converse))
		}
	case protocol.AnthropicMessages:
		edits, err = list(edits, body, "messages", false, each(before, "", plain), each(behind, "", plain))
	default:
		edits, err = list(edits, body, "messages", false, each(before, "", whole), each(behind, "", whole))
	}
	if err != nil {
		return nil, err
	}
	return jsonedit.Join(body.Splice(nil, edits)), nil
}

func converse(a *Addition) []byte { return a.converse }
func plain(a *Addition) []byte    { return a.plain }
func whole(a *Addition) []byte    { return a.whole }

// each is the form of every message that goes to a member of bedrock-converse; "": of all.
func each(all []Addition, member string, form func(*Addition) []byte) (out [][]byte) {
	for i := range all {
		if member == "" || all[i].converses == member {
			out = append(out, form(&all[i]))
		}
	}
	return out
}

// list adds elements to both ends of a list, which is made if it is not there; with
// replace, also in place of what is no list.
func list(edits []jsonedit.Edit, body *jsonedit.Doc, member string, replace bool, before, behind [][]byte) ([]jsonedit.Edit, error) {
	if len(before)+len(behind) == 0 {
		return edits, nil
	}
	raw, kind, ok := body.Get(member)
	var inner []byte
	switch {
	case ok && kind == jsonedit.Array:
		inner = raw[1 : len(raw)-1]
		if len(bytes.Trim(inner, " \t\r\n")) == 0 {
			inner = nil
		}
	case ok && kind != jsonedit.Null && !replace:
		return nil, &NotAListError{member}
	}
	all := before
	if inner != nil {
		all = append(all[:len(all):len(all)], inner)
	}
	all = append(all, behind...)
	value := append([]byte{'['}, bytes.Join(all, []byte{','})...)
	return append(edits, jsonedit.Edit{Name: member, Value: append(value, ']')}), nil
}

// responses adds to the instructions and to the input.
func responses(body *jsonedit.Doc, before, behind []Addition) (edits []jsonedit.Edit) {
	if len(before) > 0 {
		value := jsonedit.AppendQuote(nil, texts(before))
		if raw, kind, _ := body.Get("instructions"); kind == jsonedit.String {
			value = append(append(value[:len(value)-1], `\n`...), raw[1:]...)
		}
		edits = append(edits, jsonedit.Edit{Name: "instructions", Value: value})
	}
	if len(behind) == 0 {
		return edits
	}
	text := jsonedit.AppendQuote(nil, texts(behind))
	value := text
	switch raw, kind, _ := body.Get("input"); kind {
	case jsonedit.String:
		value = append(append(append([]byte(nil), raw[:len(raw)-1]...), `\n`...), text[1:]...)
	case jsonedit.Array:
		item := fmt.Appendf(nil, `{"type":"message","role":"user","content":%s}`, text)
		more, _ := list(nil, body, "input", false, nil, [][]byte{item})
		return append(edits, more...)
	}
	return append(edits, jsonedit.Edit{Name: "input", Value: value})
}

func texts(all []Addition) (text string) {
	for i := range all {
		if i > 0 {
			text += "\n"
		}
		text += all[i].text
	}
	return text
}
