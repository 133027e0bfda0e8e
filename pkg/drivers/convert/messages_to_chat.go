package convert

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/gosix/gosix/pkg/drivers/protocol"
	"github.com/gosix/gosix/pkg/jsonedit"
)

// messagesToChat lets clients of anthropic-messages reach providers of openai-chat
// (spec/06 §A7). What is not named there is not passed on.
var messagesToChat = &Conversion{
	From:    protocol.AnthropicMessages,
	To:      protocol.OpenAIChat,
	Request: messagesToChatRequest,
}

// convertedChat is a request that was converted: stream stays as the client has it, a false
// one too.
type convertedChat struct {
	chatRequest
	Stream jsontext.Value `json:"stream,omitzero"`
}

// messagesReader reads a request of anthropic-messages.
type messagesReader struct {
	names names
	out   convertedChat
}

func messagesToChatRequest(body *jsonedit.Doc) (*Converted, error) {
	if body.Kind() != jsonedit.Object {
		return nil, badRequest("request body must be a table")
	}
	messages := at(body, "messages")
	if !messages.isList() || messages.empty() {
		return nil, badRequest("missing messages")
	}
	var r messagesReader
	r.settings(body)
	r.tools(at(body, "tools"), at(body, "tool_choice"))
	r.system(at(body, "system"))
	if err := messages.items(r.message); err != nil {
		return nil, err
	}
	return &Converted{
		Body:   encode(r.out),
		Answer: &messagesOfChat{model: at(body, "model").text(), names: r.names},
	}, nil
}

// settings converts what is neither a message nor a tool.
func (r *messagesReader) settings(body *jsonedit.Doc) {
	out := &r.out
	out.Model = at(body, "model").text()
	if stream := at(body, "stream"); stream.kind == jsonedit.Bool {
		out.Stream = stream.raw
		if stream.isTrue() {
			out.StreamOptions = &streamOptions{IncludeUsage: true}
		}
	}
	for name, to := range map[string]*jsontext.Value{
		"max_tokens":  &out.MaxCompletionTokens,
		"temperature": &out.Temperature,
		"top_p":       &out.TopP,
	} {
		if v := at(body, name); v.given() && (v.kind != jsonedit.Bool || v.isTrue()) {
			*to = v.raw
		}
	}
	if stop := at(body, "stop_sequences"); stop.isList() && !stop.empty() {
		out.Stop = stop.raw
	}
	config := at(body, "output_config")
	out.ReasoningEffort = effort(at(body, "thinking"), config)
	out.ResponseFormat = structured(at(body, "output_format"), config)
	out.User = at(body, "metadata").get("user_id").text()
	out.ServiceTier = at(body, "service_tier").text()
}

// From how many tokens of thinking on an effort has its name.
const (
	lowBudget    = 1024
	mediumBudget = 2048
	highBudget   = 4096
)

// effort says in openai-chat's word how much thinking was asked for; empty: nothing was said.
func effort(thinking, config value) string {
	switch thinking.get("type").text() {
	case "adaptive":
		if e := config.get("effort").text(); e != "" {
			return e
		}
		return "medium"
	case "enabled":
		switch budget, _ := thinking.get("budget_tokens").number(); {
		case budget >= highBudget:
			return "high"
		case budget >= mediumBudget:
			return "medium"
		case budget >= lowBudget:
			return "low"
		}
		return "minimal"
	}
	return ""
}

// structured converts the schema that the answer has to follow, which stands in one of two
// places. One that asks for nothing is none.
func structured(format, config value) *responseFormat {
	if !format.isObject() || format.empty() {
		format = config.get("format")
	}
	schema := format.get("schema")
	if format.get("type").text() != "json_schema" || !schema.isObject() || schema.empty() {
		return nil
	}
	strict := true
	return &responseFormat{Type: "json_schema", JSONSchema: &jsonSchema{
		Name: "structured_output", Schema: strictSchema(schema), Strict: &strict,
	}}
}

// maxSchema is how long a schema may be that is looked into, in bytes. No provider takes one
// that is nearly as long, and every level is read anew.
const maxSchema = 1 << 18

// strictSchema returns a schema as the strict mode of openai-chat takes it: objects have the
// members that are named and no others. All else stays as it is.
func strictSchema(s value) []byte {
	if !s.isObject() || len(s.raw) > maxSchema {
		return s.raw
	}
	properties := s.get("properties")
	closed := s.get("type").text() == "object" && properties.isObject()
	dst := []byte{'{'}
	s.members(func(name string, m value) {
		if closed && (name == "additionalProperties" || name == "required") {
			return
		}
		sub := m.raw
		switch name {
		case "properties":
			if closed {
				sub = strictMembers(m)
			}
		case "items":
			sub = strictSchema(m)
		case "$defs", "definitions":
			sub = strictMembers(m)
		case "anyOf", "oneOf", "allOf":
			sub = strictItems(m)
		}
		dst = appendMember(dst, name, sub)
	})
	if closed {
		var required []string
		properties.members(func(name string, _ value) { required = append(required, name) })
		slices.Sort(required)
		list := []byte{'['}
		for _, name := range slices.Compact(required) {
			list = jsonedit.AppendQuote(comma(list), name)
		}
		dst = appendMember(dst, "additionalProperties", []byte("false"))
		dst = appendMember(dst, "required", append(list, ']'))
	}
	return append(dst, '}')
}

func strictMembers(m value) []byte {
	if !m.isObject() {
		return m.raw
	}
	dst := []byte{'{'}
	m.members(func(name string, s value) { dst = appendMember(dst, name, strictSchema(s)) })
	return append(dst, '}')
}

func strictItems(m value) []byte {
	if !m.isList() {
		return m.raw
	}
	dst := []byte{'['}
	m.each(func(s value) { dst = append(comma(dst), strictSchema(s)...) })
	return append(dst, ']')
}

func appendMember(dst []byte, name string, v []byte) []byte {
	return append(append(jsonedit.AppendQuote(comma(dst), name), ':'), v...)
}

// comma appends one unless dst ends where a list or an object begins.
func comma(dst []byte) []byte {
	if c := dst[len(dst)-1]; c == '[' || c == '{' {
		return dst
	}
	return append(dst, ',')
}

// hosted are the beginnings of the types of tools that the provider of anthropic-messages
// runs or defines itself. No other can, so they are not passed on.
var hosted = []string{"computer_", "bash_", "text_editor_", "web_search", "code_execution_"}

// tools converts the tools and which of them is to be used. Without any, the latter is not
// allowed to be there.
func (r *messagesReader) tools(tools, choice value) {
	declared := map[string]string{}
	tools.each(func(t value) {
		var kind, name, description, schema value
		t.members(func(n string, m value) {
			switch n {
			case "type":
				kind = m
			case "name":
				name = m
			case "description":
				description = m
			case "input_schema":
				schema = m
			}
		})
		theirs := func(prefix string) bool { return strings.HasPrefix(kind.text(), prefix) }
		if name.blank() || slices.ContainsFunc(hosted, theirs) {
			return
		}
		f := chatFunction{Name: r.names.give(name.text()), Description: description.text()}
		if schema.given() {
			f.Parameters = schema.raw
		}
		declared[name.text()] = f.Name
		r.out.Tools = append(r.out.Tools, chatTool{Type: "function", Function: f})
	})
	if len(r.out.Tools) == 0 {
		return
	}
	switch choice.get("type").text() {
	case "auto":
		r.out.ToolChoice = quote("auto")
	case "any":
		r.out.ToolChoice = quote("required")
	case "none":
		r.out.ToolChoice = quote("none")
	case "tool":
		if name := choice.get("name"); name.isText() {
			// One that was not declared is for the provider to refuse.
			told, ok := declared[name.text()]
			if !ok {
				told = name.text()
			}
			r.out.ToolChoice = encode(chatChoiceOfTool(told))
		}
	}
	if choice.get("disable_parallel_tool_use").isTrue() {
		parallel := false
		r.out.ParallelToolCalls = &parallel
	}
}

type namedTool struct {
	Type     string       `json:"type"`
	Function functionName `json:"function"`
}

type functionName struct {
	Name string `json:"name"`
}

func chatChoiceOfTool(name string) namedTool { return namedTool{"function", functionName{name}} }

// system makes the first message of the instructions.
func (r *messagesReader) system(system value) {
	var pieces [][]byte
	if system.isText() {
		pieces = append(pieces, system.quoted())
	}
	system.each(func(b value) {
		if text := b.get("text"); b.get("type").text() == "text" && !text.blank() {
			if text = withoutChecksum(text); !text.blank() {
				pieces = append(pieces, text.quoted())
			}
		}
	})
	if text := bytes.Join(pieces, []byte(`\n`)); len(text) > 0 {
		r.out.Messages = append(r.out.Messages, chatMessage{Role: "system", Content: inQuotes(text)})
	}
}

// billing begins a text with which a client accounts for itself. Its member cch changes from
// request to request, so that no provider could reuse what it has read of the rest.
const billing = "x-anthropic-billing-header:"

func withoutChecksum(text value) value {
	raw := text.quoted()
	if len(raw) < len(billing) || !strings.EqualFold(string(raw[:len(billing)]), billing) {
		return text
	}
	fields := slices.DeleteFunc(strings.Split(text.text()[len(billing):], ";"), func(f string) bool {
		return strings.HasPrefix(strings.TrimLeft(f, " "), "cch=")
	})
	rest := strings.Trim(strings.Join(fields, ";"), "; ")
	if rest == "" {
		return value{}
	}
	return value{quote(billing + rest), jsonedit.String}
}

// message converts message i, counting from 0, into one or several.
func (r *messagesReader) message(i int, m value) error {
	var role, content value
	m.members(func(name string, v value) {
		switch name {
		case "role":
			role = v
		case "content":
			content = v
		}
	})
	if !role.isText() {
		return badRequest(fmt.Sprintf("invalid message at index %d", i+1))
	}
	if content.isText() {
		r.out.Messages = append(r.out.Messages, chatMessage{Role: role.text(), Content: content.raw})
		return nil
	}
	if !content.isList() && !content.isObject() {
		return badRequest(fmt.Sprintf("invalid message content at index %d", i+1))
	}
	var b messageBlocks
	if err := content.items(func(_ int, block value) error { return b.read(block, &r.names) }); err != nil {
		return badRequest(fmt.Sprintf("invalid message content at index %d", i+1))
	}
	r.out.Messages = append(r.out.Messages, b.messages(role.text())...)
	return nil
}

// messageBlocks is what the blocks of one message say.
type messageBlocks struct {
	texts   [][]byte // quoted
	parts   [][]byte // texts too
	calls   []chatToolCall
	results []chatMessage
}

// read takes one block. Thinking has no place in a request of openai-chat; of what is not
// known nothing is passed on.
func (b *messageBlocks) read(block value, names *names) error {
	var kind, text, id, name, input, useID, content value
	block.members(func(n string, m value) {
		switch n {
		case "type":
			kind = m
		case "text":
			text = m
		case "id":
			id = m
		case "name":
			name = m
		case "input":
			input = m
		case "tool_use_id":
			useID = m
		case "content":
			content = m
		}
	})
	switch kind.text() {
	case "text":
		b.addText(text)
	case "image", "document":
		return b.addMedia(block)
	case "tool_use":
		if !id.isText() || !name.isText() {
			return nil
		}
		arguments := []byte("{}")
		if input.given() {
			arguments = input.compact()
		}
		b.calls = append(b.calls, chatToolCall{ID: id.text(), Type: "function", Function: chatFunctionCall{
			Name: names.give(name.text()), Arguments: string(arguments),
		}})
	case "tool_result":
		if !useID.isText() {
			return nil
		}
		said, err := resultContent(content)
		if err != nil {
			return err
		}
		b.results = append(b.results, chatMessage{Role: "tool", ToolCallID: useID.text(), Content: said})
	}
	return nil
}

func (b *messageBlocks) addText(text value) {
	if !text.isText() {
		return
	}
	b.texts = append(b.texts, text.quoted())
	b.parts = append(b.parts, slices.Concat([]byte(`{"type":"text","text":`), text.raw, []byte{'}'}))
}

func (b *messageBlocks) addImage(url []byte) {
	b.parts = append(b.parts, slices.Concat([]byte(`{"type":"image_url","image_url":{"url":`), url, []byte(`}}`)))
}

var errSource = errors.New("source is not an object")

// addMedia converts an image or a document: bytes become a data: URL, a document's text is
// text. A document at an address is one that openai-chat cannot ask for.
func (b *messageBlocks) addMedia(block value) error {
	var source, kind, mediaType, data, url, content value
	what := block.get("type").text()
	if source = block.get("source"); !source.given() {
		return nil
	} else if !source.isObject() {
		return errSource
	}
	source.members(func(n string, m value) {
		switch n {
		case "type":
			kind = m
		case "media_type":
			mediaType = m
		case "data":
			data = m
		case "url":
			url = m
		case "content":
			content = m
		}
	})
	switch kind.text() {
	case "base64":
		if data.blank() {
			return nil
		}
		if mediaType.blank() {
			mediaType = value{quote("image/png"), jsonedit.String}
			if what == "document" {
				mediaType = value{quote("application/pdf"), jsonedit.String}
			}
		}
		b.addImage(inQuotes([]byte("data:"), mediaType.quoted(), []byte(";base64,"), data.quoted()))
	case "url":
		if what == "image" && !url.blank() {
			b.addImage(url.raw)
		}
	case "text":
		if what == "document" && !data.blank() {
			b.addText(data)
		}
	case "content":
		if content.isText() && what == "document" {
			b.addText(content)
		}
		content.each(func(m value) {
			if m.get("type").text() == "text" {
				b.addText(m.get("text"))
			}
		})
	}
	return nil
}

// resultContent converts what a tool answered: a text, or parts if there is more than text.
func resultContent(content value) ([]byte, error) {
	if content.isText() {
		return content.raw, nil
	}
	var b messageBlocks
	err := content.items(func(_ int, m value) error {
		switch m.get("type").text() {
		case "text":
			b.addText(m.get("text"))
		case "image", "document":
			return b.addMedia(m)
		}
		return nil
	})
	if len(b.parts) > len(b.texts) {
		return b.list(), err
	}
	return inQuotes(b.texts...), err
}

func (b *messageBlocks) list() []byte {
	return slices.Concat([]byte{'['}, bytes.Join(b.parts, []byte{','}), []byte{']'})
}

// messages puts the message together. What tools answered has to follow the message that
// called them, so it stands before the rest.
func (b *messageBlocks) messages(role string) []chatMessage {
	if len(b.results) > 0 {
		if len(b.parts) > 0 {
			return append(b.results, chatMessage{Role: role, Content: b.list()})
		}
		return b.results
	}
	m := chatMessage{Role: role, ToolCalls: b.calls}
	switch text := inQuotes(b.texts...); {
	case len(b.calls) > 0:
		if len(text) > len(`""`) {
			m.Content = text
		}
	case len(b.parts) == 0 || role == "assistant":
		m.Content = text // an assistant says nothing but text
	default:
		m.Content = b.list()
	}
	return []chatMessage{m}
}
