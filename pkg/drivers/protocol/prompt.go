package protocol

import (
	"strings"
	"unicode/utf8"

	"github.com/gosix/gosix/pkg/jsonedit"
)

// Prompt is the text of the last message of a user, at most limit bytes of it, cut between
// characters; empty if there is none. Texts of one message are joined by spaces.
func Prompt(id ID, body *jsonedit.Doc, limit int) string {
	name := "messages"
	switch id {
	case OpenAIResponses, OpenAIEmbeddings:
		name = "input"
	case Passthrough:
		return ""
	}
	raw, kind, ok := body.Get(name)
	switch {
	case !ok:
		return ""
	case kind == jsonedit.String && name == "input":
		return cut(unquoted(raw), limit)
	case kind != jsonedit.Array || id == OpenAIEmbeddings:
		return ""
	}
	last := ""
	_ = jsonedit.Elements(raw, func(_ int, message []byte, kind jsonedit.Kind) error {
		if text := userText(id, message, kind); text != "" {
			last = text
		}
		return nil
	})
	return cut(last, limit)
}

func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit]
}

func unquoted(raw []byte) string {
	s, _ := jsonedit.Unquote(raw) // a document that was indexed has good strings
	return s
}

// userText is what a message of a user says; empty for those of others.
func userText(id ID, message []byte, kind jsonedit.Kind) string {
	if kind == jsonedit.String && id == OpenAIResponses {
		return unquoted(message)
	}
	if kind != jsonedit.Object {
		return ""
	}
	role, text := "", ""
	if id == OpenAIResponses {
		role = "user" // unless it says otherwise
	}
	_ = jsonedit.Members(message, func(name string, raw []byte, kind jsonedit.Kind) error {
		switch {
		case name == "role" && kind == jsonedit.String:
			role = unquoted(raw)
		case name == "content" && kind == jsonedit.String:
			text = unquoted(raw)
		case name == "content" && kind == jsonedit.Array:
			text = partsText(raw)
		}
		return nil
	})
	if role != "user" {
		return ""
	}
	return text
}

// partsText joins the texts of a message's parts: members `text` of those that are of a
// type of text, or of none.
func partsText(parts []byte) string {
	var texts []string
	_ = jsonedit.Elements(parts, func(_ int, part []byte, kind jsonedit.Kind) error {
		if kind != jsonedit.Object {
			return nil
		}
		isText, text := true, ""
		_ = jsonedit.Members(part, func(name string, raw []byte, kind jsonedit.Kind) error {
			switch {
			case name == "type" && kind == jsonedit.String:
				word := unquoted(raw)
				isText = word == "text" || word == "input_text"
			case name == "text" && kind == jsonedit.String:
				text = unquoted(raw)
			}
			return nil
		})
		if isText && text != "" {
			texts = append(texts, text)
		}
		return nil
	})
	return strings.Join(texts, " ")
}
