package ledger

import (
	"bytes"

	"github.com/gosix/gosix/pkg/jsonedit"
)

var (
	blockDelta = []byte(`{"type":"content_block_delta"`)
	textName   = []byte(`"text"`)
)

// anthropic looks at an event of anthropic-messages. A block that was opened says nothing
// yet.
func (l *Ledger) anthropic(data []byte) {
	if len(data) == 0 || data[0] != '{' {
		l.Began = true
		return
	}
	if bytes.HasPrefix(data, blockDelta) && !l.keep {
		l.Parsed, l.Began = true, true
		return
	}
	switch kindOf(data) {
	case "":
		if says(data, errorName) {
			l.failed(data)
		} else {
			l.Began = true
		}
		return
	case "ping":
	case "message_start":
		if raw, kind := dig(data, "message", "usage"); kind == jsonedit.Object {
			l.count(raw)
		}
	case "content_block_start":
		block, _ := dig(data, "content_block")
		if word(block, "type") == "tool_use" {
			l.ToolCalls = true
		}
		l.Began = l.Began || says(block, textName)
	case "content_block_delta":
		l.Began = true
		if l.keep {
			l.add(word(data, "delta", "text"), "")
		}
	case "message_delta":
		l.Began = true
		l.Finished = l.Finished || word(data, "delta", "stop_reason") != ""
		if raw, kind := dig(data, "usage"); kind == jsonedit.Object {
			l.count(raw)
		}
	case "message_stop":
		l.Began, l.Terminal = true, l.Terminal || intact(data)
	case "error":
		l.failed(data)
		if l.Fault == nil {
			l.Fault = &Fault{}
		}
	default:
		l.Began = true
	}
	l.Parsed = true
}

// anthropicBody looks at a body of anthropic-messages.
func (l *Ledger) anthropicBody(doc *jsonedit.Doc) {
	l.bodyFault(doc)
	l.bodyUsage(doc, "usage")
	reason, _ := doc.String("stop_reason")
	l.Finished = reason != ""
	content, kind, _ := doc.Get("content")
	each(content, kind, func(block []byte) {
		switch word(block, "type") {
		case "tool_use":
			l.ToolCalls = true
		case "text":
			l.add(word(block, "text"), " ")
		}
	})
}
