package convert

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// chatWriter puts together the answer for a client of openai-chat, whole or as a stream.
type chatWriter struct {
	body    []byte // of the request
	model   string
	id      string
	created int64
	// wantsUsage: the client asked for the count of tokens at the end of the stream.
	wantsUsage bool

	usage   *chatUsage
	choices map[int]*writtenChoice
	over    bool // the terminator or an error was written
}

// writtenChoice is what was written of one choice.
type writtenChoice struct {
	calls    int // tool calls that began
	finished bool
}

// Stamp is that of Stamped.
func (w *chatWriter) Stamp(id string, created int64) {
	if id != "" {
		w.id = "chatcmpl-" + id
	}
	w.created = created
}

// name gives the answer an id, if it has none, by what the provider said first.
func (w *chatWriter) name(first []byte) {
	if w.id == "" {
		w.id = "chatcmpl-" + digest(w.body, first)
	}
}

// identity takes over what the provider says of the answer. It is called before anything is
// written, and what was said once stays.
func (w *chatWriter) identity(id, model string, created int64) {
	if w.choices != nil {
		return
	}
	if id != "" {
		w.id = id
	}
	if model != "" {
		w.model = model
	}
	if created > 0 {
		w.created = created
	}
}

// callID makes an id for a call whose provider gives it none: the same for the same answer,
// another for every call of it.
func (w *chatWriter) callID(choice, n int) string {
	return "call_" + digest([]byte(w.id), []byte(strconv.Itoa(choice)+"."+strconv.Itoa(n)))
}

// digestSize is the length of what digest returns.
const digestSize = 24

// digest makes a name of what is to be told apart.
func digest(parts ...[]byte) string {
	h := sha256.New()
	for _, p := range parts {
		h.Write([]byte(strconv.Itoa(len(p)) + ":"))
		h.Write(p)
	}
	return hex.EncodeToString(h.Sum(nil)[:digestSize/2])
}

// begin returns a choice of which something is about to be written, and whether that is the
// first thing.
func (w *chatWriter) begin(index int) (c *writtenChoice, first bool) {
	if c = w.choices[index]; c != nil {
		return c, false
	}
	if w.choices == nil {
		w.choices = map[int]*writtenChoice{}
	}
	c = new(writtenChoice)
	w.choices[index] = c
	return c, true
}

// written is what was written of a choice, which may be nothing.
func (w *chatWriter) written(index int) writtenChoice {
	if c := w.choices[index]; c != nil {
		return *c
	}
	return writtenChoice{}
}

func (w *chatWriter) chunk(choices ...chatChoice) *chatResponse {
	return &chatResponse{
		ID: w.id, Object: "chat.completion.chunk", Created: w.created, Model: w.model, Choices: choices,
	}
}

// delta appends a piece of a choice. The first one says whose it is.
func (w *chatWriter) delta(dst []byte, index int, d chatAnswer) []byte {
	if _, first := w.begin(index); first {
		d.Role = "assistant"
	}
	return appendChunk(dst, w.chunk(chatChoice{Index: index, Delta: &d}))
}

// call appends the beginning of the next tool call of a choice and returns its number.
func (w *chatWriter) call(dst []byte, index int, c chatToolCall) ([]byte, int) {
	n := w.written(index).calls
	c.Index, c.Type = &n, "function"
	dst = w.delta(dst, index, chatAnswer{ToolCalls: []chatToolCall{c}})
	w.choices[index].calls++
	return dst, n
}

// arguments appends a piece of the arguments of tool call n.
func (w *chatWriter) arguments(dst []byte, index, n int, piece string) []byte {
	return w.delta(dst, index, chatAnswer{
		ToolCalls: []chatToolCall{{Index: &n, Function: chatFunctionCall{Arguments: piece}}},
	})
}

// finish appends why a choice ended, once.
func (w *chatWriter) finish(dst []byte, index int, reason string) []byte {
	c, first := w.begin(index)
	if c.finished {
		return dst
	}
	c.finished = true
	var d chatAnswer
	if first {
		d.Role = "assistant"
	}
	return appendChunk(dst, w.chunk(chatChoice{Index: index, Delta: &d, FinishReason: &reason}))
}

// end appends what a stream ends with, once. A stream of which nothing was understood has
// no end.
func (w *chatWriter) end(dst []byte) []byte {
	if w.over || w.choices == nil {
		return dst
	}
	w.over = true
	for _, index := range slices.Sorted(maps.Keys(w.choices)) {
		dst = w.finish(dst, index, stopOrCalls(w.choices[index].calls))
	}
	if w.wantsUsage && w.usage != nil {
		last := w.chunk()
		last.Usage = w.usage
		dst = appendChunk(dst, last)
	}
	return append(dst, chatDone...)
}

// fail appends an error, after which nothing is said.
func (w *chatWriter) fail(dst []byte, e chatErrorBody) []byte {
	w.over = true
	return appendChunk(dst, chatError{e})
}

// stopOrCalls is why an answer ended that ended as the model wanted.
func stopOrCalls(calls int) string {
	if calls > 0 {
		return "tool_calls"
	}
	return "stop"
}

// wholeChat is a whole answer. Unlike in a chunk what is missing is said to be null.
type wholeChat struct {
	ID      string        `json:"id"`
	Object  string        `json:"object"`
	Created int64         `json:"created"`
	Model   string        `json:"model"`
	Choices []wholeChoice `json:"choices"`
	Usage   *chatUsage    `json:"usage,omitzero"`
}

type wholeChoice struct {
	Index        int          `json:"index"`
	Message      wholeMessage `json:"message"`
	Logprobs     *struct{}    `json:"logprobs"`
	FinishReason string       `json:"finish_reason"`
}

type wholeMessage struct {
	Role             string         `json:"role"`
	Content          *string        `json:"content"`
	ReasoningContent string         `json:"reasoning_content,omitzero"`
	Refusal          *string        `json:"refusal"`
	ToolCalls        []chatToolCall `json:"tool_calls,omitzero"`
}

// complete returns the message as it is at its end: one without calls has a content.
func (m wholeMessage) complete() wholeMessage {
	m.Role = "assistant"
	if m.Content == nil && m.Refusal == nil && len(m.ToolCalls) == 0 {
		m.Content = new(string)
	}
	return m
}

func (m *wholeMessage) addText(s string) { m.Content = appendText(m.Content, s) }

func appendText(to *string, s string) *string {
	if to != nil {
		s = *to + s
	}
	return &s
}

func (m *wholeMessage) addCall(c chatToolCall) {
	c.Type = "function"
	m.ToolCalls = append(m.ToolCalls, c)
}

// whole writes a whole answer.
func (w *chatWriter) whole(choices []wholeChoice) []byte {
	return encode(wholeChat{
		ID: w.id, Object: "chat.completion", Created: w.created, Model: w.model, Choices: choices, Usage: w.usage,
	})
}

// openAIErrorType names a failure by its status, as OpenAI does.
func openAIErrorType(status int) string {
	switch {
	case status == http.StatusUnauthorized:
		return "authentication_error"
	case status == http.StatusForbidden:
		return "permission_error"
	case status == http.StatusNotFound:
		return "not_found_error"
	case status == http.StatusTooManyRequests:
		return "rate_limit_error"
	case status >= http.StatusInternalServerError,
		status == http.StatusRequestTimeout, status == http.StatusFailedDependency:
		return "server_error" // Bedrock has the latter two for its models
	}
	return "invalid_request_error"
}

// openAIError is a failure with that status. An empty code is null.
func openAIError(status int, message, code string) chatErrorBody {
	e := chatErrorBody{Message: message, Type: openAIErrorType(status)}
	if code != "" {
		e.Code = encode(code)
	}
	return e
}

// wrapError makes an error of an answer that is not understood.
func wrapError(status int, body []byte) chatErrorBody {
	message := strings.ToValidUTF8(string(bytes.TrimSpace(body)), "\ufffd")
	if message == "" {
		message = http.StatusText(status)
	}
	return openAIError(status, message, "")
}

// openAIErrorOf reads an error in OpenAI's shape, which others have too; false if it is none.
func openAIErrorOf(raw jsontext.Value) (e chatErrorBody, ok bool) {
	switch raw.Kind() {
	case '"':
		return e, readAnswer(raw, &e.Message)
	case '{':
		var v struct {
			Message jsontext.Value `json:"message"`
			Type    jsontext.Value `json:"type"`
			Param   jsontext.Value `json:"param"`
			Code    jsontext.Value `json:"code"`
		}
		if !readAnswer(raw, &v) {
			return e, false
		}
		e.Message, e.Type = plain(v.Message), plain(v.Type)
		if k := v.Code.Kind(); k == '"' || k == '0' {
			e.Code = v.Code
		}
		if p := plain(v.Param); p != "" {
			e.Param = &p
		}
		return e, true
	}
	return e, false
}

// plain returns the text of a string, or any other value as it stands.
func plain(v jsontext.Value) (s string) {
	if v.Kind() == '"' {
		readAnswer(v, &s)
		return s
	}
	return string(said(v))
}
