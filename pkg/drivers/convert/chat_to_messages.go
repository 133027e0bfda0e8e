package convert

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/gosix/gosix/pkg/drivers/protocol"
	"github.com/gosix/gosix/pkg/jsonedit"
)

// chatToMessages lets clients of openai-chat reach providers of anthropic-messages. What
// decides over the meaning of an answer and cannot be said there is refused; wishes, such as
// seed or logit_bias, are left out.
var chatToMessages = &Conversion{
	From:    protocol.OpenAIChat,
	To:      protocol.AnthropicMessages,
	Request: chatToMessagesRequest,
}

// defaultMaxTokens limits an answer when the client does not: anthropic-messages asks for a
// limit.
const defaultMaxTokens = 4096

// chatReader reads a request of openai-chat.
type chatReader struct {
	names  names
	ids    names // of calls, which have to look like names
	out    messagesRequest
	system []jsontext.Value // text blocks
	called []string         // tools that were called, in the provider's names
	bare   bool             // the model goes on with a turn whose thinking the client does not have
}

func chatToMessagesRequest(body *jsonedit.Doc) (*Converted, error) {
	if body.Kind() != jsonedit.Object {
		return nil, badRequest("request body must be a table")
	}
	messages := at(body, "messages")
	if !messages.isList() || messages.empty() {
		return nil, badRequest("missing messages")
	}
	if n := at(body, "n"); n.given() && n.count() != 1 {
		return nil, unsupported("n", string(n.raw))
	}
	for _, name := range []string{"functions", "function_call"} {
		if v := at(body, name); v.given() && !(v.isList() && v.empty()) {
			return nil, badRequest(name + " is not supported by anthropic-messages, use tools")
		}
	}
	r := chatReader{}
	if err := r.tools(at(body, "tools"), at(body, "tool_choice"), at(body, "parallel_tool_calls")); err != nil {
		return nil, err
	}
	if err := messages.items(r.message); err != nil {
		return nil, err
	}
	r.finishMessages()
	r.settings(body)
	stream := at(body, "stream")
	return &Converted{
		Body: encode(r.out),
		Answer: &chatOfMessages{
			model: r.out.Model, names: r.names,
			usageAsked: stream.isTrue() && at(body, "stream_options").get("include_usage").isTrue(),
		},
	}, nil
}

func unsupported(name, v string) error {
	return badRequest(fmt.Sprintf("%s %s is not supported by anthropic-messages", name, v))
}

// settings converts what is neither a message nor a tool; those are known already.
func (r *chatReader) settings(body *jsonedit.Doc) {
	out := &r.out
	out.Model = at(body, "model").text()
	if stream := at(body, "stream"); stream.kind == jsonedit.Bool {
		out.Stream = stream.raw
	}
	if stop := at(body, "stop"); stop.isText() {
		out.StopSequences = appendStop(out.StopSequences, stop)
	} else {
		stop.each(func(s value) { out.StopSequences = appendStop(out.StopSequences, s) })
	}
	if t, ok := at(body, "temperature").number(); ok {
		// Up to 2 for openai-chat, up to 1 here.
		out.Temperature = at(body, "temperature").raw
		if t > 1 {
			out.Temperature = jsontext.Value("1")
		}
	}
	if p := at(body, "top_p"); p.kind == jsonedit.Number {
		out.TopP = p.raw
	}
	user := at(body, "safety_identifier")
	if user.blank() {
		user = at(body, "user")
	}
	if !user.blank() {
		out.Metadata = &messagesMetadata{user.text()}
	}
	switch at(body, "service_tier").text() {
	case "auto":
		out.ServiceTier = "auto"
	case "default":
		out.ServiceTier = "standard_only"
	}
	format := at(body, "response_format")
	if schema := format.get("json_schema").get("schema"); format.get("type").text() == "json_schema" && schema.isObject() {
		out.OutputConfig = &messagesOutput{messagesFormat{"json_schema", schema.raw}}
	}
	limit := at(body, "max_completion_tokens")
	if !limit.given() {
		limit = at(body, "max_tokens")
	}
	r.thinking(at(body, "reasoning_effort").text(), limit)
}

// appendStop appends a text that ends the answer. One of nothing but white space is not
// allowed.
func appendStop(list []string, s value) []string {
	if text := s.text(); strings.TrimSpace(text) != "" {
		return append(list, text)
	}
	return list
}

// budgets are how many tokens of thinking an effort is worth: where its name begins in the
// other direction.
var budgets = map[string]int64{
	"low": lowBudget, "medium": mediumBudget, "high": highBudget, "xhigh": 2 * highBudget, "max": 4 * highBudget,
}

// thinking sets the limit of the answer and how much of it may be spent on thinking: at most
// half, and nothing where the provider would refuse it, which is when a tool is forced on the
// model, or when it goes on with a turn that did not begin with thinking.
func (r *chatReader) thinking(effort string, limit value) {
	out := &r.out
	forced := out.ToolChoice != nil && (out.ToolChoice.Type == "any" || out.ToolChoice.Type == "tool")
	budget := budgets[effort]
	if forced || r.bare {
		budget = 0
	}
	out.MaxTokens = jsontext.Value(strconv.FormatInt(defaultMaxTokens+budget, 10))
	if limit.given() {
		out.MaxTokens = limit.raw
		if budget = min(budget, limit.count()/2); budget < lowBudget {
			budget = 0
		}
	}
	if budget == 0 {
		return
	}
	out.Thinking = &messagesThinking{"enabled", budget}
	// With thinking, these have to stay as they are, or nearly.
	out.Temperature = nil
	if p, _ := (value{out.TopP, jsonedit.Number}).number(); p < 0.95 {
		out.TopP = nil
	}
}

// tools converts the tools and which of them is to be used.
func (r *chatReader) tools(tools, choice, parallel value) error {
	allowed := map[string]bool{}
	limited := choice.get("allowed_tools")
	limited.get("tools").each(func(t value) { allowed[t.get("function").get("name").text()] = true })
	err := tools.items(func(i int, t value) error {
		if kind := t.get("type").text(); kind != "function" {
			return unsupported(fmt.Sprintf("tools[%d]: type", i), strconv.Quote(kind))
		}
		var name, description, parameters value
		t.get("function").members(func(n string, m value) {
			switch n {
			case "name":
				name = m
			case "description":
				description = m
			case "parameters":
				parameters = m
			}
		})
		if name.blank() {
			return badRequest(fmt.Sprintf("tools[%d]: function has no name", i))
		}
		if limited.given() && !allowed[name.text()] {
			return nil
		}
		r.out.Tools = append(r.out.Tools, messagesTool{
			Name: r.names.give(name.text()), Description: description.text(), InputSchema: inputSchema(parameters),
		})
		return nil
	})
	if err != nil || len(r.out.Tools) == 0 {
		return err
	}
	if limited.given() {
		choice = limited.get("mode")
	}
	var c messagesChoice
	switch choice.text() {
	case "auto":
		c.Type = "auto"
	case "required":
		c.Type = "any"
	case "none":
		c.Type = "none"
	}
	if choice.get("type").text() == "function" {
		c.Type, c.Name = "tool", r.names.give(choice.get("function").get("name").text())
	}
	if parallel.kind == jsonedit.Bool && !parallel.isTrue() && c.Type != "none" {
		c.DisableParallelToolUse = true
		if c.Type == "" {
			c.Type = "auto"
		}
	}
	if c.Type != "" {
		r.out.ToolChoice = &c
	}
	return nil
}

// inputSchema is what a function takes: always an object.
func inputSchema(parameters value) []byte {
	switch {
	case !parameters.isObject() || parameters.empty():
		return []byte(`{"type":"object","properties":{}}`)
	case !parameters.get("type").given():
		return append([]byte(`{"type":"object",`), bytes.TrimSpace(parameters.raw)[1:]...)
	}
	return parameters.raw
}

// message converts message i, counting from 0.
func (r *chatReader) message(i int, m value) error {
	var role, content, refusal, calls, callID value
	m.members(func(name string, v value) {
		switch name {
		case "role":
			role = v
		case "content":
			content = v
		case "refusal":
			refusal = v
		case "tool_calls":
			calls = v
		case "tool_call_id":
			callID = v
		}
	})
	var c turnContent
	if err := c.read(content); err != nil {
		return badRequest(fmt.Sprintf("messages[%d]: %s", i, err))
	}
	switch role.text() {
	case "system", "developer":
		r.system = append(r.system, c.texts...)
	case "user":
		r.turn("user", c.blocks)
	case "assistant":
		blocks := c.blocks
		if !refusal.blank() {
			blocks = append(blocks, encode(textBlock{"text", refusal.raw}))
		}
		n := len(blocks)
		calls.each(func(call value) { blocks = r.call(blocks, call) })
		r.bare = len(blocks) > n
		r.turn("assistant", blocks)
	case "tool":
		result := toolResultBlock{Type: "tool_result", ToolUseID: r.ids.give(callID.text())}
		switch {
		case content.isText() && !content.blank():
			result.Content = content.raw
		case len(c.blocks) > 0:
			result.Content = encode(c.blocks)
		}
		r.turn("user", []jsontext.Value{encode(result)})
	default:
		return badRequest(fmt.Sprintf("invalid message at index %d", i+1))
	}
	return nil
}

// turn adds blocks to the conversation, in which user and assistant take turns: what one of
// them says in several messages is one turn.
func (r *chatReader) turn(role string, blocks []jsontext.Value) {
	if len(blocks) == 0 {
		return
	}
	turns := r.out.Messages
	if n := len(turns); n > 0 && turns[n-1].Role == role {
		turns[n-1].Content = append(turns[n-1].Content, blocks...)
		return
	}
	r.out.Messages = append(turns, messagesTurn{role, blocks})
}

// call appends a call of a tool that the assistant made earlier.
func (r *chatReader) call(blocks []jsontext.Value, call value) []jsontext.Value {
	f := call.get("function")
	name := f.get("name")
	if name.blank() {
		return blocks
	}
	told := r.names.give(name.text())
	r.called = append(r.called, told)
	return append(blocks, encode(toolUseBlock{
		"tool_use", r.ids.give(call.get("id").text()), told, input(f.get("arguments")),
	}))
}

// finishMessages sets what depends on the messages as a whole.
func (r *chatReader) finishMessages() {
	out := &r.out
	switch n := len(r.system); {
	case len(out.Messages) == 0 && n > 0:
		// Instructions alone are a request here as well, but as a turn.
		out.Messages = append(out.Messages, messagesTurn{"user", r.system})
	case n == 1:
		out.System = jsontext.Value(value{r.system[0], jsonedit.Object}.get("text").raw)
	case n > 1:
		out.System = encode(r.system)
	}
	if n := len(out.Messages); n > 0 && out.Messages[n-1].Role == "assistant" {
		trimEnd(out.Messages[n-1].Content)
		r.bare = true
	}
	if len(out.Tools) == 0 && len(r.called) > 0 {
		// Calls are only understood of tools that are declared.
		slices.Sort(r.called)
		for _, name := range slices.Compact(r.called) {
			out.Tools = append(out.Tools, messagesTool{Name: name, InputSchema: inputSchema(value{})})
		}
		out.ToolChoice = &messagesChoice{Type: "none"}
	}
}

// trimEnd takes the white space from the end of a text that the model is to go on with: it is
// refused there.
func trimEnd(blocks []jsontext.Value) {
	last := &blocks[len(blocks)-1]
	b := value{*last, jsonedit.Object}
	text := b.get("text").text()
	if b.get("type").text() != "text" {
		return
	}
	if short := strings.TrimRight(text, " \t\r\n"); short != "" && short != text {
		*last = encode(textBlock{"text", quote(short)})
	}
}

// turnContent is what the content of a message says, as blocks.
type turnContent struct {
	blocks []jsontext.Value
	texts  []jsontext.Value // those of blocks that are texts
}

func (c *turnContent) read(content value) error {
	switch content.kind {
	case jsonedit.Invalid, jsonedit.Null:
	case jsonedit.String:
		c.text(content)
	case jsonedit.Array:
		return content.items(func(j int, part value) error {
			if err := c.part(part); err != nil {
				return fmt.Errorf("content[%d]: %w", j, err)
			}
			return nil
		})
	default:
		return errContent
	}
	return nil
}

var (
	errContent = badRequest("content is neither a string nor a list")
	errImage   = badRequest("image_url has neither an address nor a data: URL in base64")
	errFile    = badRequest("a file has to be given as a data: URL in base64, of type application/pdf or text/*")
)

// text adds a text. An empty one is not allowed.
func (c *turnContent) text(text value) {
	if text.blank() {
		return
	}
	b := jsontext.Value(encode(textBlock{"text", text.raw}))
	c.blocks, c.texts = append(c.blocks, b), append(c.texts, b)
}

func (c *turnContent) part(part value) error {
	var kind, text, refusal, image, file value
	part.members(func(n string, m value) {
		switch n {
		case "type":
			kind = m
		case "text":
			text = m
		case "refusal":
			refusal = m
		case "image_url":
			image = m
		case "file":
			file = m
		}
	})
	switch kind.text() {
	case "text":
		c.text(text)
	case "refusal":
		c.text(refusal)
	case "image_url":
		url := image.get("url")
		if image.isText() {
			url = image // not documented, but often seen
		}
		return c.image(url)
	case "file":
		return c.file(file)
	default:
		return fmt.Errorf("type %q is not supported by anthropic-messages", kind.text())
	}
	return nil
}

// image adds an image. One that is a PDF is a document: requests that were converted to
// openai-chat have them like that.
func (c *turnContent) image(url value) error {
	raw := url.quoted()
	if !bytes.HasPrefix(raw, []byte("data:")) {
		if len(raw) == 0 {
			return errImage
		}
		c.media(mediaBlock{Type: "image", Source: mediaSource{Type: "url", URL: url.raw}})
		return nil
	}
	mediaType, data, ok := dataURL(raw)
	if !ok {
		return errImage
	}
	what := "image"
	if mediaType == "application/pdf" {
		what = "document"
	}
	c.media(mediaBlock{Type: what, Source: mediaSource{Type: "base64", MediaType: mediaType, Data: data}})
	return nil
}

func (c *turnContent) file(file value) error {
	mediaType, data, ok := dataURL(file.get("file_data").quoted())
	if !ok {
		return errFile
	}
	block := mediaBlock{Type: "document", Title: file.get("filename").text()}
	switch {
	case strings.HasPrefix(mediaType, "text/"):
		text, err := base64.StdEncoding.DecodeString(value{data, jsonedit.String}.text())
		if err != nil {
			return errFile
		}
		block.Source = mediaSource{Type: "text", MediaType: "text/plain", Data: quote(string(text))}
	case mediaType == "application/pdf":
		block.Source = mediaSource{Type: "base64", MediaType: mediaType, Data: data}
	default:
		return errFile
	}
	c.media(block)
	return nil
}

func (c *turnContent) media(b mediaBlock) { c.blocks = append(c.blocks, encode(b)) }

// dataURL takes a data: URL apart; raw and data are quoted JSON, the latter with its quotes.
// Parameters of the type but base64 are left out.
func dataURL(raw []byte) (mediaType string, data []byte, ok bool) {
	head, data, ok := bytes.Cut(raw, []byte{','})
	head, data64 := bytes.CutSuffix(head, []byte(";base64"))
	mediaType, isData := strings.CutPrefix(value{inQuotes(head), jsonedit.String}.text(), "data:")
	mediaType, _, _ = strings.Cut(mediaType, ";")
	if !ok || !data64 || !isData || mediaType == "" || len(data) == 0 {
		return "", nil, false
	}
	return strings.ToLower(strings.TrimSpace(mediaType)), inQuotes(data), true
}
