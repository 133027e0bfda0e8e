// Package ledger looks at what a provider answers as it passes, in the provider's protocol:
// what it cost, whether tools are called, whether it began to say something, whether it
// ended as it should. It changes nothing, and knows neither connections nor framings.
package ledger

import (
	"bytes"
	"strconv"
	"strings"
	"sync"

	"github.com/gosix/gosix/pkg/drivers/protocol"
	"github.com/gosix/gosix/pkg/jsonedit"
)

// Ledger is what is known of one answer so far. It is made by New and fed with the events
// of a stream, or once with a whole body. Not safe for concurrent use.
type Ledger struct {
	Usage Usage // the provider's last count; of an answer that was cut the one so far
	// Raw is what the provider counted, in its own words: JSON objects in the order in which
	// they came, of a long stream the first and the last. Members of a later one win.
	Raw       [][]byte
	ToolCalls bool // the model calls tools
	// Began: something came that says more than that an answer will come. What came before
	// it can be forgotten, and another provider asked.
	Began    bool
	Parsed   bool   // an event was of the protocol
	Finished bool   // the model said why it ended
	Terminal bool   // the protocol's last event came
	Fault    *Fault // the provider said itself that it failed; nil: it did not
	Failed   bool   // the fault stands in a body in place of an answer
	// Extra: the last event is one that only those get who ask a chat for its usage.
	Extra bool
	// Text is what the model said, if New was asked to keep it: of a stream the pieces
	// joined, of a body its texts with a space between. At most TextLimit bytes are kept.
	Text []byte

	id      protocol.ID
	keep    bool
	room    [2][]byte // memory of Raw
	like    likeness  // of chunks of openai-chat
	stopped bool      // bedrock-converse: messageStop came, its metadata did not yet
}

// TextLimit is how much of a text is kept, in bytes.
const TextLimit = 1 << 20

// Fault is a failure as a provider reports it inside an answer.
type Fault struct {
	Type    string // its class, code or status, as the provider words it
	Code    int64  // an HTTP status, where the provider names one; 0: it does not
	Message string
}

func (f *Fault) Error() string {
	switch {
	case f.Type == "":
		return "the provider reports: " + f.Message
	case f.Message == "":
		return "the provider reports: " + f.Type
	}
	return "the provider reports: " + f.Type + ": " + f.Message
}

// Status is what the provider's answer would have had as its status, had it failed before it
// began: the status it names; 429 for limits of rate and quota, 529 where it is overloaded;
// 502 for any other reason.
func (f *Fault) Status() int {
	if f.Code >= 400 && f.Code < 600 {
		return int(f.Code)
	}
	kind := strings.ToLower(f.Type)
	for _, w := range limitWords {
		if strings.Contains(kind, w) {
			return 429
		}
	}
	if strings.Contains(kind, "overloaded") {
		return 529
	}
	return 502
}

var limitWords = []string{"rate_limit", "ratelimit", "throttling", "too_many", "quota", "resource_exhausted"}

// New returns the ledger of an answer in a provider's protocol. text: what the model says is
// kept.
func New(id protocol.ID, text bool) Ledger { return Ledger{id: id, keep: text} }

// Reset makes l what New returns, in the memory that it has: Raw is void then. Text is not
// used again.
func (l *Ledger) Reset(id protocol.ID, text bool) {
	raw, room, like := l.Raw[:0], l.room, l.like
	*l = Ledger{} // in place: a literal would be made elsewhere and copied
	l.id, l.keep, l.Raw, l.room = id, text, raw, room
	l.like.before, l.like.behind = like.before[:0], like.behind[:0]
}

// Event looks at an event of a stream: kind is its type where the framing carries it, data
// its text. Only events that can say something of interest are decoded.
func (l *Ledger) Event(kind string, data []byte) {
	data = trim(data)
	if len(data) == 0 && kind == "" {
		return
	}
	l.Extra = false
	switch l.id {
	case protocol.OpenAIChat:
		l.chat(data)
	case protocol.OpenAIResponses:
		l.responses(data)
	case protocol.AnthropicMessages:
		l.anthropic(data)
	case protocol.BedrockConverse:
		l.bedrock(kind, data)
	case protocol.GeminiGenerate:
		l.gemini(data)
	default:
		l.Began = true // nothing is known of what such a stream says
	}
}

// Whole looks at a body that is no stream, of an answer with a status below 300.
func (l *Ledger) Whole(body []byte) {
	if l.id == protocol.OpenAIChat && !l.keep && l.plainChat(body) {
		return
	}
	doc := docs.Get().(*jsonedit.Doc)
	defer func() {
		doc.Forget()
		docs.Put(doc)
	}()
	if doc.Reindex(body, jsonedit.Options{MaxDepth: wholeDepth}) != nil || doc.Kind() != jsonedit.Object {
		return
	}
	switch l.id {
	case protocol.OpenAIChat, protocol.OpenAIEmbeddings:
		l.chatBody(doc)
	case protocol.OpenAIResponses:
		l.responseBody(doc)
	case protocol.AnthropicMessages:
		l.anthropicBody(doc)
	case protocol.BedrockConverse:
		l.bedrockBody(doc)
	case protocol.GeminiGenerate:
		l.geminiBody(doc)
	case protocol.VertexPredict:
		l.predictBody(doc)
	}
	l.failedBody(doc)
}

var docs = sync.Pool{New: func() any { return new(jsonedit.Doc) }}

// wholeDepth bounds how deep a body is read; nothing else does.
const wholeDepth = 10000

// failedBody finds out whether a body reports a failure instead of an answer. One beside an
// answer is a part of that.
func (l *Ledger) failedBody(doc *jsonedit.Doc) {
	answers := ""
	switch l.id {
	case protocol.OpenAIChat:
		answers = "choices"
	case protocol.OpenAIEmbeddings:
		answers = "data"
	case protocol.OpenAIResponses:
		answers = "output"
	case protocol.AnthropicMessages:
		answers = "content"
	case protocol.GeminiGenerate:
		answers = "candidates"
	case protocol.VertexPredict:
		answers = "predictions"
	default:
		return // of Bedrock a failure is known by its status alone
	}
	raw, kind, _ := doc.Get("error")
	if !valued(raw) || kind != jsonedit.Object && kind != jsonedit.String {
		return
	}
	if said, _, ok := doc.Get(answers); ok && valued(said) {
		return
	}
	l.Fault, l.Failed = fault(raw, kind), true
}

// Tail looks at the last bytes of a body that was too long to be kept: the usage is near its
// end in every protocol.
func (l *Ledger) Tail(end []byte) {
	name := usageName
	if l.id == protocol.GeminiGenerate {
		name = metadataName
	}
	i := bytes.LastIndex(end, name)
	if i < 0 {
		return
	}
	rest, ok := bytes.CutPrefix(trim(end[i+len(name):]), []byte(":"))
	rest = trim(rest)
	if !ok || len(rest) == 0 || rest[0] != '{' {
		return
	}
	// There are no texts with braces in it.
	depth := 0
	for n, c := range rest {
		switch c {
		case '{':
			depth++
		case '}':
			depth--
		}
		if depth == 0 {
			l.count(rest[:n+1])
			return
		}
	}
}

// says reports whether a member of that name stands in data with a value that says something.
// name is in quotes. Within a text the quote before it would be escaped.
func says(data, name []byte) bool {
	for from := 0; ; {
		i := bytes.Index(data[from:], name)
		if i < 0 {
			return false
		}
		i += from
		from = i + len(name)
		if i > 0 && data[i-1] == '\\' {
			continue
		}
		rest := trim(data[from:])
		if len(rest) == 0 || rest[0] != ':' {
			continue
		}
		if valued(rest[1:]) {
			return true
		}
	}
}

// valued reports whether the value at the beginning of data is neither null nor an empty
// text or list.
func valued(data []byte) bool {
	if data = trim(data); len(data) == 0 {
		return true
	}
	switch data[0] {
	case 'n':
		return !bytes.HasPrefix(data, null)
	case '"':
		return !bytes.HasPrefix(data, blank)
	case '[':
		rest := trim(data[1:])
		return len(rest) == 0 || rest[0] != ']'
	}
	return true
}

// trim is bytes.TrimLeft for the white space of JSON, of which there mostly is none.
func trim(data []byte) []byte {
	for len(data) > 0 && space(data[0]) {
		data = data[1:]
	}
	return data
}

var (
	null  = []byte("null")
	blank = []byte(`""`)
)

// intact reports whether an event is JSON to its end.
func intact(data []byte) bool {
	return jsonedit.Check(data, jsonedit.Options{MaxDepth: depth}) == nil
}

// depth bounds how deep an event is read; nothing else does.
const depth = 1 << 10

// dig returns the value at a path of members; Invalid if there is none.
func dig(raw []byte, path ...string) (value []byte, kind jsonedit.Kind) {
	value, kind = raw, jsonedit.Object
	for _, want := range path {
		if kind != jsonedit.Object {
			return nil, jsonedit.Invalid
		}
		inner := value
		value, kind = nil, jsonedit.Invalid
		_ = jsonedit.Peek(inner, func(name string, v []byte, k jsonedit.Kind) error {
			if name == want {
				value, kind = v, k
			}
			return nil
		})
	}
	return value, kind
}

// word returns the text at a path; "" if there is none.
func word(raw []byte, path ...string) string {
	value, kind := dig(raw, path...)
	if kind != jsonedit.String {
		return ""
	}
	s, _ := jsonedit.Unquote(value)
	return s
}

// each calls f with the objects of a list.
func each(list []byte, kind jsonedit.Kind, f func(object []byte)) {
	if kind != jsonedit.Array {
		return
	}
	_ = jsonedit.Elements(list, func(_ int, raw []byte, kind jsonedit.Kind) error {
		if kind == jsonedit.Object {
			f(raw)
		}
		return nil
	})
}

// add keeps a text. Of a body's texts each begins with a space but the first.
func (l *Ledger) add(text, between string) {
	if !l.keep || text == "" {
		return
	}
	if len(l.Text) > 0 {
		l.Text = append(l.Text, between...)
	}
	if room := TextLimit - len(l.Text); len(text) > room {
		text = strings.ToValidUTF8(text[:max(room, 0)], "")
	}
	l.Text = append(l.Text, text...)
}

// fault reads how a failure is reported: an object with type, code or status, and message;
// or a text.
func fault(raw []byte, kind jsonedit.Kind) *Fault {
	f := &Fault{}
	if kind == jsonedit.String {
		f.Message, _ = jsonedit.Unquote(raw)
		return f
	}
	if kind != jsonedit.Object {
		return f
	}
	words := map[string]string{}
	_ = jsonedit.Members(raw, func(name string, v []byte, k jsonedit.Kind) error {
		switch {
		case k == jsonedit.String:
			words[name], _ = jsonedit.Unquote(v)
		case name == "code":
			f.Code = count(v)
		}
		return nil
	})
	f.Message = words["message"]
	// The type of an event is no class.
	for _, name := range []string{"type", "code", "status"} {
		if w := words[name]; w != "" && w != "error" {
			if f.Type != "" {
				f.Type += " "
			}
			f.Type += w
		}
	}
	if n, err := strconv.ParseInt(words["code"], 10, 64); err == nil {
		f.Code = n
	}
	return f
}
