package convert

import (
	"bytes"
	"maps"
	"net/http"
	"slices"
	"strconv"

	"github.com/gosix/gosix/pkg/jsonedit"
)

// chatOfMessages converts answers of anthropic-messages for clients of openai-chat.
type chatOfMessages struct {
	model      string // that the client asked for
	names      names
	id         string // for an answer that has none
	created    int64  // s since 1970
	usageAsked bool

	head   []byte // what every chunk begins with; nil: nothing was said
	blocks map[int64]*messagesBlock
	tools  int // calls so far
	reason string
	usage  messagesTokens
	ended  bool // nothing more is said
}

// messagesBlock is a content block that is open.
type messagesBlock struct {
	tool  int    // index of the call, -1 if it is none
	input []byte // of a call, until a delta comes: the object that the block began with
}

// chatWhole is a whole answer. Unlike a chunk, it says of every member of the message that
// there is none.
type chatWhole struct {
	ID      string            `json:"id"`
	Object  string            `json:"object"` // chat.completion
	Created int64             `json:"created"`
	Model   string            `json:"model"`
	Choices []chatWholeChoice `json:"choices"`
	Usage   *chatUsage        `json:"usage,omitzero"`
}

type chatWholeChoice struct {
	Index        int              `json:"index"`
	Message      chatWholeMessage `json:"message"`
	FinishReason string           `json:"finish_reason"`
}

type chatWholeMessage struct {
	Role             string         `json:"role"`
	Content          *string        `json:"content"`
	Refusal          *string        `json:"refusal"`
	ReasoningContent string         `json:"reasoning_content,omitzero"`
	ToolCalls        []chatToolCall `json:"tool_calls,omitzero"`
}

// Stamp says when the answer came, which the provider does not, and gives a name to one that
// has none.
func (a *chatOfMessages) Stamp(id string, created int64) { a.id, a.created = id, created }

// Whole converts a message. Blocks of tools that the provider runs itself are none of the
// client's, and thinking that is redacted cannot be read.
func (a *chatOfMessages) Whole(body []byte) ([]byte, error) {
	v, ok := document(body)
	if !ok || !v.isObject() {
		return nil, badAnswer("response body must be a table")
	}
	if f, failed := failureOf(v); failed {
		return encode(f.chat(f.status())), nil
	}
	var id, model, content, reason, usage value
	v.members(func(n string, m value) {
		switch n {
		case "id":
			id = m
		case "model":
			model = m
		case "content":
			content = m
		case "stop_reason":
			reason = m
		case "usage":
			usage = m
		}
	})
	if !content.isList() {
		return nil, badAnswer("no content in response")
	}
	out := chatWhole{ID: a.idOf(id), Object: "chat.completion", Created: a.created, Model: a.modelOf(model)}
	message := chatWholeMessage{Role: "assistant"}
	content.each(func(b value) {
		switch b.get("type").text() {
		case "text":
			text := b.get("text").text()
			if message.Content != nil {
				text = *message.Content + text
			}
			message.Content = &text
		case "thinking":
			message.ReasoningContent += b.get("thinking").text()
		case "tool_use":
			arguments := "{}"
			if in := b.get("input"); in.isObject() {
				arguments = string(in.compact())
			}
			message.ToolCalls = append(message.ToolCalls, chatToolCall{
				ID: b.get("id").text(), Type: "function",
				Function: chatFunctionCall{Name: a.names.restore(b.get("name").text()), Arguments: arguments},
			})
		}
	})
	finish := finishOf(reason.text(), len(message.ToolCalls))
	out.Choices = []chatWholeChoice{{Message: message, FinishReason: finish}}
	a.usage.add(usage)
	if usage.isObject() {
		out.Usage = a.usage.chat()
	}
	return encode(out), nil
}

func (a *chatOfMessages) idOf(answer value) string {
	if answer.blank() {
		return a.id
	}
	return answer.text()
}

func (a *chatOfMessages) modelOf(answer value) string {
	if answer.blank() {
		return a.model
	}
	return answer.text()
}

// finishOf says in openai-chat's word why a message ended.
func finishOf(reason string, calls int) string {
	switch reason {
	case "max_tokens", "model_context_window_exceeded":
		return "length"
	case "refusal":
		return "content_filter"
	case "tool_use":
		return "tool_calls"
	case "": // it was not said
		if calls > 0 {
			return "tool_calls"
		}
	}
	return "stop" // end_turn, stop_sequence, pause_turn
}

// messagesTokens is the usage of anthropic-messages. What comes later in a stream counts the
// whole message, not what was added.
type messagesTokens struct{ input, output, cacheRead, cacheCreation int64 }

func (t *messagesTokens) add(usage value) {
	usage.members(func(n string, m value) {
		if m.kind != jsonedit.Number {
			return
		}
		switch n {
		case "input_tokens":
			t.input = m.count()
		case "output_tokens":
			t.output = m.count()
		case "cache_read_input_tokens":
			t.cacheRead = m.count()
		case "cache_creation_input_tokens":
			t.cacheCreation = m.count()
		}
	})
}

// chat converts usage: for openai-chat what a cache gave, or took, is a part of the prompt.
func (t messagesTokens) chat() *chatUsage {
	prompt := t.input + t.cacheRead + t.cacheCreation
	return &chatUsage{
		PromptTokens: prompt, CompletionTokens: t.output, TotalTokens: prompt + t.output,
		PromptTokensDetails: &promptDetails{CachedTokens: t.cacheRead, CacheCreationTokens: t.cacheCreation},
	}
}

// Error converts the provider's error.
func (a *chatOfMessages) Error(status int, body []byte) []byte {
	if v, ok := document(body); ok {
		if f, failed := failureOf(v); failed {
			return encode(f.chat(status))
		}
	}
	return encode(unknownFailure(status, body).chat(status))
}

// chat says with openai-chat's words what kind of error it is; the provider's own type, which
// says more, is the code.
func (f failure) chat(status int) chatError {
	e := chatErrorBody{Message: f.message, Type: chatErrorType(status)}
	switch {
	case f.kind != "":
		e.Code = quote(f.kind)
	case f.code.given():
		e.Code = f.code.raw
	default:
		e.Code = []byte("null")
	}
	return chatError{e}
}

func chatErrorType(status int) string {
	switch {
	case status == http.StatusUnauthorized:
		return "authentication_error"
	case status == http.StatusForbidden:
		return "permission_error"
	case status == http.StatusTooManyRequests:
		return "rate_limit_error"
	case status >= 400 && status < 500:
		return "invalid_request_error"
	}
	return "server_error"
}

// Event converts an event.
func (a *chatOfMessages) Event(dst []byte, _ string, data []byte) []byte {
	if a.ended {
		return dst
	}
	v, ok := document(data)
	if !ok {
		return dst
	}
	var kind, message, index, block, delta, usage value
	v.members(func(n string, m value) {
		switch n {
		case "type":
			kind = m
		case "message":
			message = m
		case "index":
			index = m
		case "content_block":
			block = m
		case "delta":
			delta = m
		case "usage":
			usage = m
		}
	})
	switch kind.text() {
	case "error":
		f, _ := failureOf(v)
		a.ended = true
		return appendChunk(dst, f.chat(f.status()))
	case "message_start":
		a.usage.add(message.get("usage"))
		return a.start(dst, a.idOf(message.get("id")), a.modelOf(message.get("model")))
	case "content_block_start", "content_block_delta", "content_block_stop":
		if a.reason != "" {
			return dst // nothing is added to a message that has ended
		}
		dst = a.start(dst, a.id, a.model)
		switch kind.text() {
		case "content_block_start":
			return a.startBlock(dst, index.count(), block)
		case "content_block_delta":
			return a.addToBlock(dst, index.count(), delta)
		}
		return a.stopBlock(dst, index.count())
	case "message_delta":
		a.usage.add(usage)
		return a.finish(a.start(dst, a.id, a.model), delta.get("stop_reason").text())
	case "message_stop":
		return a.Close(dst)
	}
	return dst // ping, and what is not known
}

// Close ends the stream.
func (a *chatOfMessages) Close(dst []byte) []byte {
	if a.ended {
		return dst
	}
	if a.ended = true; a.head == nil {
		return dst
	}
	if a.reason == "" {
		dst = a.finish(dst, finishReasonUnsaid)
	}
	if a.usageAsked {
		dst = append(append(dst, a.head...), `"choices":[],"usage":`...)
		dst = append(append(dst, encode(a.usage.chat())...), "}\n\n"...)
	}
	return append(dst, chatDone...)
}

// finishReasonUnsaid stands for a reason that never came.
const finishReasonUnsaid = "-"

// start says that a message begins, unless it was said.
func (a *chatOfMessages) start(dst []byte, id, model string) []byte {
	if a.head != nil {
		return dst
	}
	head := jsonedit.AppendQuote([]byte(`data: {"id":`), id)
	head = append(head, `,"object":"chat.completion.chunk","created":`...)
	head = strconv.AppendInt(head, a.created, 10)
	head = jsonedit.AppendQuote(append(head, `,"model":`...), model)
	a.head = append(head, ',')
	return a.chunk(dst, []byte(`"role":"assistant","content":""`), nil)
}

// chunk appends a chunk with those members of delta; pieces go between its two halves.
func (a *chatOfMessages) chunk(dst, delta, finish []byte) []byte {
	dst = append(append(dst, a.head...), `"choices":[{"index":0,"delta":{`...)
	dst = append(append(dst, delta...), `},"finish_reason":`...)
	if finish == nil {
		finish = []byte("null")
	}
	dst = append(append(dst, finish...), "}]"...)
	if a.usageAsked {
		dst = append(dst, `,"usage":null`...)
	}
	return append(dst, "}\n\n"...)
}

func (a *chatOfMessages) text(dst []byte, member string, text value) []byte {
	if text.blank() {
		return dst
	}
	return a.chunk(dst, bytes.Join([][]byte{[]byte(`"` + member + `":`), text.raw}, nil), nil)
}

func (a *chatOfMessages) startBlock(dst []byte, index int64, block value) []byte {
	dst = a.stopBlock(dst, index)
	b := &messagesBlock{tool: -1}
	if a.blocks == nil {
		a.blocks = map[int64]*messagesBlock{}
	}
	a.blocks[index] = b
	switch block.get("type").text() {
	case "text":
		return a.text(dst, "content", block.get("text"))
	case "thinking":
		return a.text(dst, "reasoning_content", block.get("thinking"))
	case "tool_use":
		b.tool = a.tools
		a.tools++
		b.input = []byte("{}")
		if in := block.get("input"); in.isObject() {
			b.input = in.compact()
		}
		call := chatToolCall{Index: &b.tool, ID: block.get("id").text(), Type: "function"}
		call.Function.Name = a.names.restore(block.get("name").text())
		return a.call(dst, call)
	}
	return dst
}

func (a *chatOfMessages) addToBlock(dst []byte, index int64, delta value) []byte {
	switch delta.get("type").text() {
	case "text_delta":
		return a.text(dst, "content", delta.get("text"))
	case "thinking_delta":
		return a.text(dst, "reasoning_content", delta.get("thinking"))
	case "input_json_delta":
		b, part := a.blocks[index], delta.get("partial_json")
		if b == nil || b.tool < 0 || part.blank() {
			return dst
		}
		b.input = nil
		return a.arguments(dst, b, part.raw)
	}
	return dst // signature_delta, citations_delta
}

// stopBlock says what a call was given if no delta did.
func (a *chatOfMessages) stopBlock(dst []byte, index int64) []byte {
	b := a.blocks[index]
	if b == nil {
		return dst
	}
	delete(a.blocks, index)
	if b.tool >= 0 && b.input != nil {
		return a.arguments(dst, b, quote(string(b.input)))
	}
	return dst
}

func (a *chatOfMessages) arguments(dst []byte, b *messagesBlock, quoted []byte) []byte {
	delta := strconv.AppendInt([]byte(`"tool_calls":[{"index":`), int64(b.tool), 10)
	delta = append(append(delta, `,"function":{"arguments":`...), quoted...)
	return a.chunk(dst, append(delta, "}}]"...), nil)
}

func (a *chatOfMessages) call(dst []byte, call chatToolCall) []byte {
	delta := append([]byte(`"tool_calls":[`), encode(call)...)
	return a.chunk(dst, append(delta, ']'), nil)
}

// finish says why the message ended, once.
func (a *chatOfMessages) finish(dst []byte, reason string) []byte {
	if reason == "" || a.reason != "" {
		return dst
	}
	for _, index := range slices.Sorted(maps.Keys(a.blocks)) {
		dst = a.stopBlock(dst, index)
	}
	a.reason = reason
	if reason == finishReasonUnsaid {
		reason = ""
	}
	return a.chunk(dst, nil, quote(finishOf(reason, a.tools)))
}
