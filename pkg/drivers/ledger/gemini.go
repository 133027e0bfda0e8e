package ledger

import (
	"bytes"
	"slices"

	"github.com/gosix/gosix/pkg/jsonedit"
)

var (
	candidatesName   = []byte(`"candidates"`)
	blockName        = []byte(`"blockReason"`)
	metadataName     = []byte(`"usageMetadata"`)
	geminiFinishName = []byte(`"finishReason"`)
	callName         = []byte(`"functionCall"`)
	partNames        = [][]byte{textName, callName, []byte(`"inlineData"`), []byte(`"executableCode"`)}
)

// gemini looks at a piece of gemini-generate. The protocol has no terminator: the last
// piece says why it ended.
func (l *Ledger) gemini(data []byte) {
	has, blocked := bytes.Contains(data, candidatesName), says(data, blockName)
	switch {
	case len(data) == 0 || data[0] != '{' || !has && !blocked && !bytes.Contains(data, metadataName):
		if !says(data, errorName) || !l.failed(data) {
			l.Began = true
		}
		return
	case says(data, geminiFinishName) || blocked && !has:
		l.Finished, l.Began = true, true
	case !l.Began:
		l.Began = slices.ContainsFunc(partNames, func(name []byte) bool { return says(data, name) })
	}
	l.Parsed = true
	l.ToolCalls = l.ToolCalls || says(data, callName)
	// Each piece counts anew; that of an answer that is cut is wanted too.
	if says(data, metadataName) {
		if raw, kind := dig(data, "usageMetadata"); kind == jsonedit.Object {
			l.count(raw)
		}
	}
	if l.keep {
		l.geminiText(data)
	}
}

// geminiText keeps what is said, but not what is thought.
func (l *Ledger) geminiText(data []byte) {
	candidates, kind := dig(data, "candidates")
	each(candidates, kind, func(candidate []byte) {
		parts, kind := dig(candidate, "content", "parts")
		each(parts, kind, func(part []byte) {
			if thought, _ := dig(part, "thought"); !bytes.Equal(thought, []byte("true")) {
				l.add(word(part, "text"), "")
			}
		})
	})
}

// geminiBody looks at a body of gemini-generate.
func (l *Ledger) geminiBody(doc *jsonedit.Doc) {
	l.bodyFault(doc)
	l.bodyUsage(doc, "usageMetadata")
	l.ToolCalls = says(doc.Bytes(), callName)
	l.Finished = says(doc.Bytes(), geminiFinishName)
	if l.keep {
		l.geminiText(doc.Bytes())
	}
}

// predictBody looks at a body of vertex-predict: embeddings, each with a count of its own.
func (l *Ledger) predictBody(doc *jsonedit.Doc) {
	predictions, kind, _ := doc.Get("predictions")
	each(predictions, kind, func(p []byte) {
		tokens, _ := dig(p, "embeddings", "statistics", "token_count")
		l.Usage.Prompt += count(tokens)
	})
	l.Usage.Total = l.Usage.Prompt
	l.Finished = kind == jsonedit.Array
}
