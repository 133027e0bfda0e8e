package convert

import (
	"bytes"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/gosix/gosix/pkg/jsonedit"
)

// The shapes of anthropic-messages, as far as conversions write them.

type messagesRequest struct {
	Model         string            `json:"model,omitzero"`
	MaxTokens     jsontext.Value    `json:"max_tokens"`
	System        jsontext.Value    `json:"system,omitzero"` // a text, or a list of text blocks
	Messages      []messagesTurn    `json:"messages"`
	Tools         []messagesTool    `json:"tools,omitzero"`
	ToolChoice    *messagesChoice   `json:"tool_choice,omitzero"`
	StopSequences []string          `json:"stop_sequences,omitzero"`
	Temperature   jsontext.Value    `json:"temperature,omitzero"`
	TopP          jsontext.Value    `json:"top_p,omitzero"`
	Thinking      *messagesThinking `json:"thinking,omitzero"`
	OutputConfig  *messagesOutput   `json:"output_config,omitzero"`
	Metadata      *messagesMetadata `json:"metadata,omitzero"`
	ServiceTier   string            `json:"service_tier,omitzero"` // auto, standard_only
	Stream        jsontext.Value    `json:"stream,omitzero"`
}

// messagesTurn is a turn of user or assistant. Content is one block or several.
type messagesTurn struct {
	Role    string           `json:"role"`
	Content []jsontext.Value `json:"content"`
}

type textBlock struct {
	Type string         `json:"type"` // text
	Text jsontext.Value `json:"text"`
}

// mediaBlock is an image or a document.
type mediaBlock struct {
	Type   string      `json:"type"`
	Source mediaSource `json:"source"`
	Title  string      `json:"title,omitzero"` // of a document
}

type mediaSource struct {
	Type      string         `json:"type"` // base64, url, text
	MediaType string         `json:"media_type,omitzero"`
	Data      jsontext.Value `json:"data,omitzero"`
	URL       jsontext.Value `json:"url,omitzero"`
}

type toolUseBlock struct {
	Type  string         `json:"type"` // tool_use
	ID    string         `json:"id"`
	Name  string         `json:"name"`
	Input jsontext.Value `json:"input"` // an object
}

type toolResultBlock struct {
	Type      string         `json:"type"` // tool_result
	ToolUseID string         `json:"tool_use_id"`
	Content   jsontext.Value `json:"content,omitzero"` // a text or a list of blocks
}

type thinkingBlock struct {
	Type      string         `json:"type"` // thinking
	Thinking  jsontext.Value `json:"thinking"`
	Signature string         `json:"signature"`
}

type messagesTool struct {
	Name        string         `json:"name"`
	Description string         `json:"description,omitzero"`
	InputSchema jsontext.Value `json:"input_schema"`
}

type messagesChoice struct {
	Type                   string `json:"type"`          // auto, any, tool, none
	Name                   string `json:"name,omitzero"` // of tool
	DisableParallelToolUse bool   `json:"disable_parallel_tool_use,omitzero"`
}

type messagesThinking struct {
	Type         string `json:"type"` // enabled
	BudgetTokens int64  `json:"budget_tokens"`
}

type messagesOutput struct {
	Format messagesFormat `json:"format"`
}

type messagesFormat struct {
	Type   string         `json:"type"` // json_schema
	Schema jsontext.Value `json:"schema"`
}

type messagesMetadata struct {
	UserID string `json:"user_id"`
}

type messagesResponse struct {
	ID         string           `json:"id"`
	Type       string           `json:"type"` // message
	Role       string           `json:"role"` // assistant
	Model      string           `json:"model"`
	Content    []jsontext.Value `json:"content"`
	StopReason string           `json:"stop_reason,omitzero"` // not in the event that begins a message
	Usage      messagesUsage    `json:"usage"`
}

// messagesUsage counts tokens. InputTokens are those that no cache had anything to do with.
type messagesUsage struct {
	InputTokens         int64  `json:"input_tokens"`
	OutputTokens        int64  `json:"output_tokens"`
	CacheReadTokens     *int64 `json:"cache_read_input_tokens,omitzero"`
	CacheCreationTokens *int64 `json:"cache_creation_input_tokens,omitzero"`
}

// messagesError is how anthropic-messages reports a failure, in a body and in a stream.
type messagesError struct {
	Type  string            `json:"type"` // error
	Error messagesErrorBody `json:"error"`
}

type messagesErrorBody struct {
	Type    string `json:"type"`
	Message string `json:"message"`
}

// Events of a stream of anthropic-messages have a name beside their data, which says the same
// as the data's type.
func appendMessagesEvent(dst []byte, name string, data []byte) []byte {
	dst = append(append(append(dst, "event: "...), name...), "\ndata: "...)
	return append(append(dst, data...), "\n\n"...)
}

type startEvent struct {
	Type    string           `json:"type"` // message_start
	Message messagesResponse `json:"message"`
}

func appendMessageStart(dst []byte, id, model string) []byte {
	return appendMessagesEvent(dst, "message_start", encode(startEvent{"message_start", messagesResponse{
		ID: id, Type: "message", Role: "assistant", Model: model, Content: []jsontext.Value{},
	}}))
}

func appendBlockStart(dst []byte, index int, block []byte) []byte {
	dst = append(dst, "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":"...)
	dst = strconv.AppendInt(dst, int64(index), 10)
	return append(append(append(dst, `,"content_block":`...), block...), "}\n\n"...)
}

// appendBlockDelta appends a part of a block: kind names the delta, member what of it grows
// by text.
func appendBlockDelta(dst []byte, index int, kind, member string, text []byte) []byte {
	dst = append(dst, "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":"...)
	dst = strconv.AppendInt(dst, int64(index), 10)
	dst = append(append(dst, `,"delta":{"type":"`...), kind...)
	dst = append(append(append(dst, `","`...), member...), `":"`...)
	return append(append(dst, text...), "\"}}\n\n"...)
}

func appendBlockStop(dst []byte, index int) []byte {
	dst = append(dst, "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":"...)
	return append(strconv.AppendInt(dst, int64(index), 10), "}\n\n"...)
}

type messageDelta struct {
	Type  string        `json:"type"` // message_delta
	Delta stopDelta     `json:"delta"`
	Usage messagesUsage `json:"usage"`
}

type stopDelta struct {
	StopReason string `json:"stop_reason"`
}

// messageStop is the event after which a stream of anthropic-messages says nothing.
const messageStop = "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"

// The types of errors of anthropic-messages, by status. Others are judged by their hundreds.
var messagesErrorTypes = map[int]string{
	http.StatusBadRequest:            "invalid_request_error",
	http.StatusUnauthorized:          "authentication_error",
	http.StatusPaymentRequired:       "billing_error",
	http.StatusForbidden:             "permission_error",
	http.StatusNotFound:              "not_found_error",
	http.StatusRequestTimeout:        "timeout_error",
	http.StatusRequestEntityTooLarge: "request_too_large",
	http.StatusTooManyRequests:       "rate_limit_error",
	http.StatusInternalServerError:   "api_error",
	http.StatusServiceUnavailable:    "overloaded_error",
	http.StatusGatewayTimeout:        "timeout_error",
	529:                              "overloaded_error",
}

func messagesErrorType(status int) string {
	if t, ok := messagesErrorTypes[status]; ok {
		return t
	}
	if status >= 400 && status < 500 {
		return "invalid_request_error"
	}
	return "api_error"
}

// messagesErrorStatus is the other way round: 0 for a type that is not one of
// anthropic-messages.
func messagesErrorStatus(kind string) int {
	switch kind {
	case "api_error":
		return http.StatusInternalServerError
	case "timeout_error":
		return http.StatusGatewayTimeout
	case "overloaded_error":
		return 529
	}
	for status, t := range messagesErrorTypes {
		if t == kind {
			return status
		}
	}
	return 0
}

// failure is what a body or an event says about why there is no answer. Both protocols have
// it in a member error: most often an object, with some providers only a text.
type failure struct {
	message string
	kind    string // the type, in the provider's words
	code    value  // a word or a number; some providers put the HTTP status there
}

// failureOf reads the error of a body or an event; false if there is none.
func failureOf(v value) (failure, bool) {
	e := v.get("error")
	switch e.kind {
	case jsonedit.String:
		return failure{message: e.text()}, true
	case jsonedit.Object:
		f := failure{message: e.get("message").text(), kind: e.get("type").text(), code: e.get("code")}
		return f, true
	}
	return failure{}, false
}

// unknownFailure is the error of a body that is not of the protocol: what it says is wrapped
// as it is.
func unknownFailure(status int, body []byte) failure {
	if v, ok := document(body); ok {
		for _, name := range []string{"message", "detail", "error_msg"} {
			if m := v.get(name); !m.blank() {
				return failure{message: m.text()}
			}
		}
	}
	text := strings.ToValidUTF8(string(bytes.TrimSpace(body)), "\uFFFD")
	if text == "" {
		text = http.StatusText(status)
	}
	if len(text) > maxFailureText {
		cut := maxFailureText
		for !utf8.RuneStart(text[cut]) {
			cut--
		}
		text = text[:cut]
	}
	return failure{message: text}
}

// maxFailureText bounds what is wrapped of a body that nobody understands, in bytes.
const maxFailureText = 4 << 10

// status guesses the HTTP status that an error in a stream, or under a status of 200, would
// have had; 0 if it says nothing about it.
func (f failure) status() int {
	code := f.code.text()
	if n := f.code.count(); n >= 400 && n < 600 {
		return int(n)
	}
	if n, err := strconv.Atoi(code); err == nil && n >= 400 && n < 600 {
		return n
	}
	for _, word := range []string{code, f.kind} {
		if s := messagesErrorStatus(word); s != 0 {
			return s
		}
	}
	for _, word := range []string{f.kind, code} {
		switch word {
		case "insufficient_quota", "rate_limit_exceeded", "requests", "tokens", "rate_limit_error":
			return http.StatusTooManyRequests
		case "invalid_api_key":
			return http.StatusUnauthorized
		case "server_error", "internal_server_error", "internal_error":
			return http.StatusInternalServerError
		case "service_unavailable", "service_unavailable_error", "overloaded":
			return http.StatusServiceUnavailable
		case "model_not_found":
			return http.StatusNotFound
		}
	}
	return 0
}
