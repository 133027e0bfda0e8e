package convert

import (
	"bytes"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/gosix/gosix/pkg/jsonedit"
)

// messagesOfChat converts answers of openai-chat for clients of anthropic-messages.
type messagesOfChat struct {
	model string // that the client asked for
	id    string // for an answer that has none
	names names

	begun   bool     // message_start was said
	next    int      // number of the next block
	blocks  []*block // the first is open, or about to be; the others wait until it is complete
	calls   map[int64]*block
	last    *block // the call that was spoken of last
	reason  string // why the message ended; empty: it has not
	refused bool
	usage   *chatTokens
	ended   bool // nothing more is said
}

// block is a content block of a stream.
type block struct {
	kind     string // text, thinking, tool_use
	id, name string // of tool_use
	open     bool
	closed   bool
	held     []byte  // quoted, of text not yet passed on
	input    jsonEnd // of tool_use
}

// Stamp gives a name to an answer to which the provider gives none.
func (a *messagesOfChat) Stamp(id string, _ int64) { a.id = id }

func (a *messagesOfChat) idOf(answer value) string {
	if answer.blank() {
		return a.id
	}
	return answer.text()
}

// Whole converts choices[0].
func (a *messagesOfChat) Whole(body []byte) ([]byte, error) {
	v, ok := document(body)
	if !ok || !v.isObject() {
		return nil, badAnswer("response body must be a table")
	}
	if f, failed := failureOf(v); failed {
		return encode(f.messages(f.status())), nil
	}
	c := readChunk(v)
	if !c.choice.isObject() {
		return nil, badAnswer("no choices in response")
	}
	out := messagesResponse{ID: a.idOf(c.id), Type: "message", Role: "assistant", Model: a.model}
	if out.Model == "" {
		out.Model = c.model.text()
	}
	s := readSpoken(c.choice.get("message"))
	if text := inQuotes(s.thoughts...); len(text) > len(`""`) {
		out.Content = append(out.Content, encode(thinkingBlock{Type: "thinking", Thinking: text}))
	}
	if text := inQuotes(s.texts...); len(text) > len(`""`) {
		out.Content = append(out.Content, encode(textBlock{"text", text}))
	}
	s.calls.each(func(call value) {
		if !call.isObject() {
			return
		}
		f := call.get("function")
		out.Content = append(out.Content, encode(toolUseBlock{
			"tool_use", call.get("id").text(), a.names.restore(f.get("name").text()), input(f.get("arguments")),
		}))
	})
	if len(out.Content) == 0 {
		out.Content = append(out.Content, encode(textBlock{"text", quote("")}))
	}
	out.StopReason = stopReason(finishReason(c.choice), s.refused)
	if t := readChatTokens(c.usage); t != nil {
		out.Usage = t.messages(true)
	}
	return encode(out), nil
}

// input is the object that the arguments of a call are; empty if they are no object.
func input(arguments value) jsontext.Value {
	if v, ok := document([]byte(arguments.text())); ok && v.isObject() {
		return v.compact()
	}
	return jsontext.Value("{}")
}

// Error converts the provider's error. Its type follows the status, which clients see too.
func (a *messagesOfChat) Error(status int, body []byte) []byte {
	if v, ok := document(body); ok {
		if f, failed := failureOf(v); failed {
			return encode(f.messages(status))
		}
	}
	return encode(unknownFailure(status, body).messages(status))
}

func (f failure) messages(status int) messagesError {
	return messagesError{"error", messagesErrorBody{messagesErrorType(status), f.message}}
}

// Event converts a chunk.
func (a *messagesOfChat) Event(dst []byte, _ string, data []byte) []byte {
	if a.ended {
		return dst
	}
	if string(bytes.TrimSpace(data)) == "[DONE]" {
		return a.Close(dst)
	}
	v, ok := document(data)
	if !ok {
		return dst
	}
	if f, failed := failureOf(v); failed {
		a.ended = true
		return appendMessagesEvent(dst, "error", encode(f.messages(f.status())))
	}
	c := readChunk(v)
	if !c.chat {
		return dst
	}
	// The last word on usage counts: some providers say it again and again.
	if t := readChatTokens(c.usage); t != nil {
		a.usage = t
	}
	if a.reason != "" {
		return dst
	}
	if !a.begun {
		// Some providers begin with a chunk about the prompt that has no choice, and no id.
		if !c.choice.isObject() {
			return dst
		}
		a.begun = true
		model := c.model.text()
		if model == "" {
			model = a.model
		}
		dst = appendMessageStart(dst, a.idOf(c.id), model)
	}
	s := readSpoken(c.choice.get("delta"))
	a.say("thinking", s.thoughts)
	a.say("text", s.texts)
	s.calls.each(a.call)
	a.refused = a.refused || s.refused
	if reason := finishReason(c.choice); reason != "" {
		a.reason = stopReason(reason, a.refused)
	}
	return a.advance(dst, a.reason != "")
}

// Close ends the message. Usage may come after the reason, in a chunk of its own, and a stream
// that is cut before its end must not look complete: that is why the end is not said before.
func (a *messagesOfChat) Close(dst []byte) []byte {
	if a.ended {
		return dst
	}
	if a.ended = true; !a.begun {
		return dst
	}
	dst = a.advance(dst, true)
	end := messageDelta{Type: "message_delta", Delta: stopDelta{a.reason}}
	if a.usage != nil {
		end.Usage = a.usage.messages(false)
	} // else zeros: Anthropic's JavaScript SDK fails on an event without usage
	if a.reason == "" {
		end.Delta.StopReason = "end_turn"
	}
	return append(appendMessagesEvent(dst, "message_delta", encode(end)), messageStop...)
}

// say takes what was added to a text, or to thinking.
func (a *messagesOfChat) say(kind string, texts [][]byte) {
	for _, text := range texts {
		if len(text) == 0 {
			continue
		}
		if n := len(a.blocks); n == 0 || a.blocks[n-1].kind != kind {
			a.blocks = append(a.blocks, &block{kind: kind})
		}
		last := a.blocks[len(a.blocks)-1]
		last.held = append(last.held, text...)
	}
}

// call takes what was added to a call of a tool. Chunks belong together by their index; where
// a provider leaves it out, or counts from 0 in every chunk, by their id.
func (a *messagesOfChat) call(delta value) {
	if !delta.isObject() {
		return
	}
	var index, id, function value
	delta.members(func(n string, m value) {
		switch n {
		case "index":
			index = m
		case "id":
			id = m
		case "function":
			function = m
		}
	})
	b := a.last
	if index.kind == jsonedit.Number {
		b = a.calls[index.count()]
	}
	if b == nil || !id.blank() && b.id != "" && b.id != id.text() {
		b = &block{kind: "tool_use"}
		a.blocks = append(a.blocks, b)
		if a.calls == nil {
			a.calls = map[int64]*block{}
		}
		if index.kind == jsonedit.Number {
			a.calls[index.count()] = b
		}
	}
	a.last = b
	if b.id == "" {
		b.id = id.text()
	}
	if b.name == "" {
		b.name = a.names.restore(function.get("name").text())
	}
	if arguments := function.get("arguments"); !arguments.blank() && !b.closed {
		b.held = append(b.held, arguments.quoted()...)
		b.input.feed(arguments.text())
	}
}

// advance passes on what can be. Blocks follow one another, while providers may speak of
// several calls in turn: a call keeps the others waiting until its input is complete.
func (a *messagesOfChat) advance(dst []byte, end bool) []byte {
	for len(a.blocks) > 0 {
		b := a.blocks[0]
		tool := b.kind == "tool_use"
		if tool && b.name == "" && !end {
			return dst
		}
		dst = a.pass(dst, b)
		if !end && (len(a.blocks) == 1 || tool && !b.input.complete()) {
			return dst
		}
		dst = appendBlockStop(dst, a.next)
		b.closed = true
		a.next++
		a.blocks = a.blocks[1:]
	}
	return dst
}

// pass says of a block what is not said yet.
func (a *messagesOfChat) pass(dst []byte, b *block) []byte {
	delta, member := "text_delta", "text"
	start := []byte(`{"type":"text","text":""}`)
	switch b.kind {
	case "thinking":
		delta, member = "thinking_delta", "thinking"
		start = []byte(`{"type":"thinking","thinking":""}`)
	case "tool_use":
		delta, member = "input_json_delta", "partial_json"
		if !b.open {
			start = encode(toolUseBlock{"tool_use", b.id, b.name, jsontext.Value("{}")})
		}
	}
	if !b.open {
		b.open = true
		dst = appendBlockStart(dst, a.next, start)
	}
	if len(b.held) > 0 {
		dst = appendBlockDelta(dst, a.next, delta, member, b.held)
		b.held = nil
	}
	return dst
}

// jsonEnd finds out where a JSON object that comes in pieces ends.
type jsonEnd struct {
	depth   int
	begun   bool
	quoted  bool // within a string
	escaped bool // after a backslash
}

func (e *jsonEnd) feed(piece string) {
	for i := range len(piece) {
		switch c := piece[i]; {
		case e.escaped:
			e.escaped = false
		case e.quoted && c == '\\':
			e.escaped = true
		case c == '"':
			e.quoted = !e.quoted
		case e.quoted:
		case c == '{' || c == '[':
			e.depth++
			e.begun = true
		case c == '}' || c == ']':
			e.depth--
		}
	}
}

func (e *jsonEnd) complete() bool { return e.begun && e.depth <= 0 && !e.quoted }

// chatChunk is a whole answer or a chunk, of which one choice counts.
type chatChunk struct {
	chat                     bool // it has choices at all, even if the list is empty
	id, model, choice, usage value
}

func readChunk(v value) (c chatChunk) {
	v.members(func(n string, m value) {
		switch n {
		case "id":
			c.id = m
		case "model":
			c.model = m
		case "usage":
			c.usage = m
		case "choices":
			c.chat = m.isList()
			c.choice = value{}
			m.each(func(choice value) {
				if !c.choice.given() {
					c.choice = choice
				}
			})
		}
	})
	return c
}

// spoken is what a message, or a part of one, says.
type spoken struct {
	texts, thoughts [][]byte // quoted
	calls           value
	refused         bool
}

func readSpoken(m value) (s spoken) {
	var content, refusal, reasoningContent, reasoning value
	m.members(func(n string, v value) {
		switch n {
		case "content":
			content = v
		case "refusal":
			refusal = v
		case "reasoning_content":
			reasoningContent = v
		case "reasoning":
			reasoning = v
		case "tool_calls":
			s.calls = v
		}
	})
	if reasoningContent.blank() {
		reasoningContent = reasoning
	}
	s.thoughts = append(s.thoughts, reasoningContent.quoted())
	s.texts = append(s.texts, content.quoted())
	// Some providers answer in parts.
	content.each(func(part value) {
		switch part.get("type").text() {
		case "text":
			s.texts = append(s.texts, part.get("text").quoted())
		case "thinking":
			thinking := part.get("thinking")
			s.thoughts = append(s.thoughts, thinking.quoted())
			thinking.each(func(t value) { s.thoughts = append(s.thoughts, t.get("text").quoted()) })
		}
	})
	if !refusal.blank() {
		s.refused = true
		s.texts = append(s.texts, refusal.quoted())
	}
	return s
}

// finishReason is why a choice ended, empty while it goes on: for some providers that is a
// blank, or the word null.
func finishReason(choice value) string {
	reason := strings.TrimSpace(choice.get("finish_reason").text())
	if reason == "null" {
		return ""
	}
	return reason
}

func stopReason(finish string, refused bool) string {
	switch {
	case finish == "length":
		return "max_tokens"
	case finish == "tool_calls" || finish == "function_call":
		return "tool_use"
	case refused:
		return "refusal"
	}
	return "end_turn"
}

// chatTokens is the usage of openai-chat.
type chatTokens struct {
	prompt, completion int64
	cached, created    *int64
}

// readChatTokens returns nil if there is no usage.
func readChatTokens(usage value) *chatTokens {
	if !usage.isObject() {
		return nil
	}
	var t chatTokens
	var details value
	usage.members(func(n string, m value) {
		switch n {
		case "prompt_tokens":
			t.prompt = m.count()
		case "completion_tokens":
			t.completion = m.count()
		case "prompt_tokens_details":
			details = m
		case "prompt_cache_hit_tokens":
			if n := m.count(); t.cached == nil && n > 0 {
				t.cached = &n
			}
		}
	})
	if details.isObject() {
		var cached int64
		details.members(func(n string, m value) {
			switch n {
			case "cached_tokens":
				cached = m.count()
			case "cache_creation_input_tokens", "cache_creation_tokens":
				if m.given() {
					n := m.count()
					t.created = &n
				}
			}
		})
		if t.cached == nil || cached > 0 {
			t.cached = &cached
		}
	}
	return &t
}

// messages converts usage. A stream is silent about a cache that nothing was read from.
func (t *chatTokens) messages(whole bool) messagesUsage {
	u := messagesUsage{
		InputTokens: t.prompt, OutputTokens: t.completion, CacheReadTokens: t.cached, CacheCreationTokens: t.created,
	}
	if t.cached != nil {
		u.InputTokens = max(0, t.prompt-*t.cached)
		if *t.cached == 0 && !whole {
			u.CacheReadTokens = nil
		}
	}
	return u
}
