package ledger

import (
	"bytes"

	"github.com/gosix/gosix/pkg/jsonedit"
)

var (
	doneEvent     = []byte("[DONE]")
	usageName     = []byte(`"usage"`)
	errorName     = []byte(`"error"`)
	contentBegins = []byte(`"content":"`)
	typeName      = []byte(`"type"`)
	typeIsFirst   = []byte(`{"type":"`)
	deltaIsInside = []byte(`.delta`)
)

// names is a set of members of a chunk.
type names uint8

const (
	choices names = 1 << iota
	finish
	tools
	usage
	failure
	content
)

// members finds which members stand anywhere in a chunk, and which of them say something.
func members(data []byte) (has, say names) {
	for n, at := next(data, 0); n != 0; n, at = next(data, at) {
		if has |= n; valued(data[at:]) {
			say |= n
		}
	}
	return has, say
}

// next finds the member behind at whose name is one of names, and where its value begins; 0:
// there is none. It goes from colon to colon: looking for each name would cost more than all
// else.
func next(data []byte, at int) (n names, value int) {
	for {
		i := bytes.IndexByte(data[at:], ':')
		if i < 0 {
			return 0, len(data)
		}
		end := at + i
		at = end + 1
		for end > 0 && space(data[end-1]) {
			end--
		}
		if end < 2 || data[end-1] != '"' {
			continue
		}
		n, length := nameAt(data[:end-1])
		// Within a text the quote before it would be escaped.
		if start := end - 1 - length; n != 0 && (start == 0 || data[start-1] != '\\') {
			return n, at
		}
	}
}

// nameAt returns which name p ends with, and its length with the quote before it; 0: none.
func nameAt(p []byte) (n names, length int) {
	is := func(name string) bool {
		length = len(name)
		return len(p) >= length && string(p[len(p)-length:]) == name
	}
	// By the last letter, of which most others are.
	switch p[len(p)-1] {
	case 'e':
		if is(`"usage`) {
			return usage, length
		}
	case 'g':
		if is(`"reasoning`) {
			return content, length
		}
	case 'l':
		switch {
		case is(`"function_call`):
			return tools, length
		case is(`"refusal`):
			return content, length
		}
	case 'n':
		if is(`"finish_reason`) {
			return finish, length
		}
	case 'o':
		if is(`"audio`) {
			return content, length
		}
	case 'r':
		if is(`"error`) {
			return failure, length
		}
	case 's':
		switch {
		case is(`"choices`):
			return choices, length
		case is(`"tool_calls`):
			return tools, length
		case is(`"images`):
			return content, length
		}
	case 't':
		if is(`"content`) || is(`"text`) || is(`"reasoning_content`) {
			return content, length
		}
	}
	return 0, 0
}

func space(c byte) bool { return c <= ' ' && (c == ' ' || c == '\t' || c == '\r' || c == '\n') }

// chat looks at a chunk of openai-chat. One that only says who speaks is no beginning, and
// neither is one that only counts.
func (l *Ledger) chat(data []byte) {
	switch {
	case len(data) == 0:
		return
	case data[0] == '[' && bytes.Equal(bytes.TrimRight(data, " \t\r\n"), doneEvent):
		l.Terminal, l.Parsed, l.Began = true, true, true
		return
	case data[0] != '{':
		l.Began = true
		return
	}
	if l.like.fits(data) {
		return // a further piece of the text
	}
	has, say := members(data)
	if has&choices == 0 {
		switch {
		case say&failure != 0 && l.failed(data):
		case say&usage != 0:
			l.chunkUsage(data)
		default:
			l.Began = true
		}
		return
	}
	l.Parsed = true
	if say&finish != 0 && say&failure != 0 && l.failed(data) {
		return
	}
	l.Finished = l.Finished || say&finish != 0
	l.ToolCalls = l.ToolCalls || say&tools != 0
	l.Began = l.Began || say&(finish|tools|content) != 0
	if say == choices|content && !l.keep {
		l.like.learn(data)
	}
	if say&usage != 0 {
		l.chunkUsage(data)
		l.Extra = say&choices == 0
	}
	if l.keep {
		list, kind := dig(data, "choices")
		each(list, kind, func(choice []byte) { l.add(word(choice, "delta", "content"), "") })
	}
}

// likeness is what stands before and behind the text of a chunk. Nearly all chunks of a
// stream have that in common, and then say what the chunk said from which it was learnt:
// they are compared instead of read.
type likeness struct {
	before, behind []byte // nothing was learnt while before is empty
}

// learn takes over a chunk that adds to what was said and says nothing else.
func (k *likeness) learn(data []byte) {
	const limit = 2 << 10 // bytes
	k.before = k.before[:0]
	at := bytes.Index(data, contentBegins)
	if at < 0 {
		return
	}
	at += len(contentBegins)
	n := bytes.IndexByte(data[at:], '"')
	if n <= 0 || data[at+n-1] == '\\' || len(data)-n > limit {
		return
	}
	k.before, k.behind = append(k.before, data[:at]...), append(k.behind[:0], data[at+n:]...)
}

// fits reports whether a chunk differs from what was learnt in its text alone: that is not
// empty, and ends where the other did.
func (k *likeness) fits(data []byte) bool {
	n := len(data) - len(k.behind)
	if len(k.before) == 0 || n <= len(k.before) || string(data[n:]) != string(k.behind) || string(data[:len(k.before)]) != string(k.before) {
		return false
	}
	text := data[len(k.before):n]
	return text[len(text)-1] != '\\' && bytes.IndexByte(text, '"') < 0
}

// failed notes a failure if the event reports one.
func (l *Ledger) failed(data []byte) bool {
	value, kind := dig(data, "error")
	if kind == jsonedit.Invalid || kind == jsonedit.Null {
		return false
	}
	if l.Fault == nil {
		l.Fault = fault(value, kind)
	}
	return true
}

// chunkUsage reads the usage of a chunk: beside the choices, in a provider's own corner, or
// inside the choice.
func (l *Ledger) chunkUsage(data []byte) {
	for _, path := range [][]string{{"usage"}, {"x_groq", "usage"}} {
		if raw, kind := dig(data, path...); kind == jsonedit.Object {
			l.count(raw)
			return
		}
	}
	list, kind := dig(data, "choices")
	each(list, kind, func(choice []byte) {
		if raw, kind := dig(choice, "usage"); kind == jsonedit.Object {
			l.count(raw)
		}
	})
}

// chatBody looks at a body of openai-chat or openai-embeddings.
func (l *Ledger) chatBody(doc *jsonedit.Doc) {
	l.bodyFault(doc)
	l.bodyUsage(doc, "usage")
	list, kind, _ := doc.Get("choices")
	if kind != jsonedit.Array {
		return
	}
	_, say := members(list)
	l.ToolCalls = l.ToolCalls || say&tools != 0
	l.Finished = l.Finished || say&finish != 0
	if l.keep {
		each(list, kind, func(choice []byte) { l.add(word(choice, "message", "content"), " ") })
	}
}

func (l *Ledger) bodyFault(doc *jsonedit.Doc) {
	if raw, kind, ok := doc.Get("error"); ok && kind != jsonedit.Null {
		l.Fault = fault(raw, kind)
	}
}

func (l *Ledger) bodyUsage(doc *jsonedit.Doc, name string) {
	if raw, kind, ok := doc.Get(name); ok && kind == jsonedit.Object {
		l.count(raw)
	}
}

// kindOf returns the type of an event that names it as a member: its text, empty if it has
// none. Nearly all name it first.
func kindOf(data []byte) string {
	if bytes.HasPrefix(data, typeIsFirst) {
		rest := data[len(typeIsFirst):]
		if end := bytes.IndexByte(rest, '"'); end >= 0 && bytes.IndexByte(rest[:end], '\\') < 0 {
			return string(rest[:end])
		}
	}
	if !bytes.Contains(data, typeName) {
		return ""
	}
	return word(data, "type")
}

// responses looks at an event of openai-responses. What only announces an item or a part of
// one is no beginning.
func (l *Ledger) responses(data []byte) {
	if len(data) == 0 || data[0] != '{' {
		l.Began = true
		return
	}
	if l.Began && !l.keep && bytes.HasPrefix(data, typeIsFirst) {
		// Of the pieces of a text, which nearly all events are, nothing is to be learnt.
		if end := bytes.IndexByte(data[len(typeIsFirst):], '"'); end > 0 && bytes.HasSuffix(data[:len(typeIsFirst)+end], deltaIsInside) {
			l.Parsed = true
			return
		}
	}
	kind := kindOf(data)
	switch kind {
	case "":
		l.Began = true
		return
	case "error":
		// Some put what happened into a member, others beside the type.
		if value, is := dig(data, "error"); is == jsonedit.Object {
			l.Fault = fault(value, is)
		} else {
			l.Fault = fault(data, jsonedit.Object)
		}
	case "response.created", "response.queued", "response.in_progress", "response.content_part.added", "response.reasoning_summary_part.added":
	case "response.output_item.added":
		l.ToolCalls = l.ToolCalls || word(data, "item", "type") == "function_call"
	case "response.completed", "response.incomplete", "response.failed":
		// What is cut inside its last event has no end.
		if !intact(data) {
			return
		}
		l.Terminal, l.Finished = true, true
		if raw, is := dig(data, "response"); is == jsonedit.Object {
			if doc, err := jsonedit.IndexTrusted(raw); err == nil {
				keep := l.keep
				l.keep = false // its text came before
				l.responseBody(doc)
				l.keep = keep
			}
		}
		if kind == "response.failed" && l.Fault == nil {
			l.Fault = &Fault{}
		}
		if kind != "response.failed" {
			l.Began = true
		}
	default:
		l.Began = true
		if l.keep && kind == "response.output_text.delta" {
			l.add(word(data, "delta"), "")
		}
	}
	l.Parsed = true
}

// responseBody looks at a body of openai-responses.
func (l *Ledger) responseBody(doc *jsonedit.Doc) {
	l.bodyFault(doc)
	l.bodyUsage(doc, "usage")
	if status, _ := doc.String("status"); status == "completed" || status == "incomplete" {
		l.Finished = true
	}
	output, kind, _ := doc.Get("output")
	each(output, kind, func(item []byte) {
		switch word(item, "type") {
		case "function_call":
			l.ToolCalls = true
		case "message":
			if l.keep {
				parts, kind := dig(item, "content")
				each(parts, kind, func(part []byte) {
					if word(part, "type") == "output_text" {
						l.add(word(part, "text"), " ")
					}
				})
			}
		}
	})
}
