package ledger

import (
	"strings"

	"github.com/gosix/gosix/pkg/jsonedit"
)

// bedrock looks at a message of bedrock-converse. The last one counts the tokens and comes
// after that with which the model stops.
func (l *Ledger) bedrock(kind string, data []byte) {
	switch kind {
	case "messageStart":
	case "contentBlockStart":
		if _, is := dig(data, "start", "toolUse"); is == jsonedit.Object {
			l.ToolCalls = true
		}
	case "contentBlockDelta":
		l.Began = true
		if l.keep {
			l.add(word(data, "delta", "text"), "")
		}
	case "contentBlockStop":
		l.Began = true
	case "messageStop":
		l.Began, l.Finished, l.stopped = true, true, true
	case "metadata":
		l.Began = true
		l.Terminal = l.Terminal || l.stopped
		if raw, is := dig(data, "usage"); is == jsonedit.Object {
			l.count(raw)
		}
	default:
		if !strings.HasSuffix(kind, "Exception") && !strings.HasSuffix(kind, "Error") {
			l.Began = true
			return
		}
		if l.Fault == nil {
			l.Fault = fault(data, jsonedit.Object)
			l.Fault.Type = kind
		}
	}
	l.Parsed = true
}

// bedrockBody looks at a body of bedrock-converse.
func (l *Ledger) bedrockBody(doc *jsonedit.Doc) {
	l.bodyUsage(doc, "usage")
	reason, _ := doc.String("stopReason")
	l.Finished = reason != ""
	output, _, _ := doc.Get("output")
	content, kind := dig(output, "message", "content")
	each(content, kind, func(block []byte) {
		if _, is := dig(block, "toolUse"); is == jsonedit.Object {
			l.ToolCalls = true
		}
		l.add(word(block, "text"), " ")
	})
}
