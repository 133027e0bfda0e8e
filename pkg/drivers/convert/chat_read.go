package convert

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/gosix/gosix/pkg/drivers/protocol"
	"github.com/gosix/gosix/pkg/jsonedit"
)

// readRequest decodes a request, which is JSON.
func readRequest(body *jsonedit.Doc, v any) error {
	if body.Kind() != jsonedit.Object {
		return badRequest("request body must be a table")
	}
	err := json.Unmarshal(body.Bytes(), v, jsontext.AllowDuplicateNames(true))
	if err == nil {
		return nil
	}
	if where := new(json.SemanticError); errors.As(err, &where) {
		return badRequest("invalid value at " + string(where.JSONPointer))
	}
	return badRequest(err.Error())
}

// readAnswer decodes an answer or an event; false if it is not what v says.
func readAnswer(p []byte, v any) bool {
	return json.Unmarshal(p, v, jsontext.AllowDuplicateNames(true)) == nil
}

// said returns a raw value unless it is null, which says as much as its absence.
func said(v jsontext.Value) jsontext.Value {
	if v.Kind() == 'n' {
		return nil
	}
	return v
}

// readChat reads a request of openai-chat that is for a provider of another protocol. Tools
// that are no functions are refused, since the model would be asked for something else.
func readChat(body *jsonedit.Doc, to protocol.ID) (*chatRequest, error) {
	r := new(chatRequest)
	if err := readRequest(body, r); err != nil {
		return nil, err
	}
	if len(r.Messages) == 0 {
		return nil, badRequest("missing messages")
	}
	if body.Has("functions") {
		return nil, badRequest("functions is not supported by " + string(to) + ", use tools")
	}
	for i, t := range r.Tools {
		switch {
		case t.Type != "function":
			return nil, badRequest(fmt.Sprintf("tools[%d]: type %q is not supported by %s", i, t.Type, to))
		case t.Function.Name == "":
			return nil, badRequest(fmt.Sprintf("tools[%d]: function has no name", i))
		}
	}
	return r, nil
}

// oneChoice refuses what asks for more than one answer.
func (r *chatRequest) oneChoice(to protocol.ID) error {
	if n := string(said(r.N)); n != "" && n != "1" {
		return badRequest("n " + n + " is not supported by " + string(to))
	}
	return nil
}

// asksForUsage reports whether the client wants the count of tokens at the end of a stream.
func (r *chatRequest) asksForUsage() bool {
	return r.StreamOptions != nil && r.StreamOptions.IncludeUsage
}

// limit is how many tokens the answer may have; nil: nothing was said.
func (r *chatRequest) limit() jsontext.Value {
	if v := said(r.MaxCompletionTokens); v != nil {
		return v
	}
	return said(r.MaxTokens)
}

// stops lists what ends the answer.
func (r *chatRequest) stops() ([]string, error) {
	switch r.Stop.Kind() {
	case '"':
		s, _ := jsonedit.Unquote(r.Stop)
		return []string{s}, nil
	case '[':
		var list []string
		if json.Unmarshal(r.Stop, &list) == nil {
			return list, nil
		}
	case 'n', 0:
		return nil, nil
	}
	return nil, badRequest("stop is neither a string nor a list of strings")
}

// schema is the schema that the answer has to follow; false: none.
func (r *chatRequest) schema() (*jsonSchema, bool) {
	if f := r.ResponseFormat; f != nil && f.Type == "json_schema" && f.JSONSchema != nil {
		return f.JSONSchema, true
	}
	return nil, false
}

// choice says which tools the model uses: mode is auto, none or required, and empty if nothing
// was said; names are those it is limited to, if any.
func (r *chatRequest) choice() (mode string, names []string) {
	type named struct {
		Function struct {
			Name string `json:"name"`
		} `json:"function"`
	}
	var c struct {
		Type string `json:"type"`
		named
		Allowed struct {
			Mode  string  `json:"mode"`
			Tools []named `json:"tools"`
		} `json:"allowed_tools"`
	}
	switch r.ToolChoice.Kind() {
	case '"':
		mode, _ = jsonedit.Unquote(r.ToolChoice)
		return mode, nil
	case '{':
		if json.Unmarshal(r.ToolChoice, &c, jsontext.AllowDuplicateNames(true)) != nil {
			return "", nil
		}
		switch c.Type {
		case "function":
			return "required", []string{c.Function.Name}
		case "allowed_tools":
			for _, t := range c.Allowed.Tools {
				names = append(names, t.Function.Name)
			}
			return c.Allowed.Mode, names
		}
	}
	return "", nil
}

// parts returns what message i, counting from 0, consists of; a plain text is one part.
func (m *chatMessage) parts(i int) (list []chatPart, err error) {
	switch m.Content.Kind() {
	case '"':
		list = []chatPart{{Type: "text", Text: plain(m.Content)}}
	case '[':
		err = json.Unmarshal(m.Content, &list, jsontext.AllowDuplicateNames(true))
	case 'n', 0:
	default:
		err = errors.ErrUnsupported
	}
	if err != nil {
		return nil, badRequest(fmt.Sprintf("messages[%d]: content is neither a string nor a list of parts", i))
	}
	if m.Refusal != "" {
		list = append(list, chatPart{Type: "refusal", Refusal: m.Refusal})
	}
	return list, nil
}

// badRole refuses message i, counting from 0.
func (m *chatMessage) badRole(i int, to protocol.ID) error {
	return badRequest(fmt.Sprintf("messages[%d]: role %q is not supported by %s", i, m.Role, to))
}

// place is where a part stands, counting from 0.
type place struct{ message, part int }

// refuse is why a part cannot be converted.
func (p place) refuse(why string) error {
	return badRequest(fmt.Sprintf("messages[%d]: content[%d]: %s", p.message, p.part, why))
}

// unknown refuses a part of that type.
func (p place) unknown(part chatPart, to protocol.ID) error {
	return p.refuse(fmt.Sprintf("type %q is not supported by %s", part.Type, to))
}

// noData is why a file is refused that is only named.
const noData = "a file has to be given as a data: URL, its id is another provider's"

// texts joins the parts that are text.
func texts(parts []chatPart) string {
	var b strings.Builder
	for _, p := range parts {
		switch p.Type {
		case "text":
			b.WriteString(p.Text)
		case "refusal":
			b.WriteString(p.Refusal)
		}
	}
	return b.String()
}

// splitDataURL takes a data: URL apart; false if it is another kind of address. data is base64.
func splitDataURL(address string) (mediaType, data string, ok bool) {
	rest, ok := strings.CutPrefix(address, "data:")
	if !ok {
		return "", "", false
	}
	head, data, ok := strings.Cut(rest, ",")
	if !ok {
		return "", "", false
	}
	mediaType, params, _ := strings.Cut(head, ";")
	if params == "base64" || strings.HasSuffix(params, ";base64") {
		return mediaType, data, true
	}
	plain, err := url.PathUnescape(data)
	if err != nil {
		return "", "", false
	}
	return mediaType, base64.StdEncoding.EncodeToString([]byte(plain)), true
}

// argumentsObject returns the arguments of a call as an object. What a model wrote as such
// need not be one; then there are none.
func argumentsObject(text string) jsontext.Value {
	p := jsontext.Value(text)
	if p.Kind() != '{' || jsonedit.Check(p, jsonedit.Options{}) != nil {
		return jsontext.Value("{}")
	}
	return p
}
