package convert

import (
	"net/http"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/gosix/gosix/pkg/drivers/protocol"
	"github.com/gosix/gosix/pkg/jsonedit"
)

// chatToResponses lets clients of openai-chat reach providers of openai-responses.
//
// What has no place there is left out: stop, seed, presence_penalty, frequency_penalty, and the
// reasoning of earlier answers. Nothing is stored unless the
// client says so, as in openai-chat.
var chatToResponses = &Conversion{
	From:    protocol.OpenAIChat,
	To:      protocol.OpenAIResponses,
	Request: chatToResponsesRequest,
}

type responsesRequest struct {
	Model             string              `json:"model,omitzero"`
	Instructions      string              `json:"instructions,omitzero"`
	Input             []responsesInput    `json:"input"`
	Tools             []responsesFunction `json:"tools,omitzero"`
	ToolChoice        any                 `json:"tool_choice,omitzero"`
	ParallelToolCalls *bool               `json:"parallel_tool_calls,omitzero"`
	MaxOutputTokens   jsontext.Value      `json:"max_output_tokens,omitzero"`
	Temperature       jsontext.Value      `json:"temperature,omitzero"`
	TopP              jsontext.Value      `json:"top_p,omitzero"`
	Text              *responsesText      `json:"text,omitzero"`
	Reasoning         *responsesReasoning `json:"reasoning,omitzero"`
	ServiceTier       string              `json:"service_tier,omitzero"`
	User              string              `json:"user,omitzero"`
	SafetyIdentifier  string              `json:"safety_identifier,omitzero"`
	Metadata          jsontext.Value      `json:"metadata,omitzero"`
	Store             bool                `json:"store"`
	Stream            bool                `json:"stream,omitzero"`
}

// responsesInput is an item of the input: a message, a call, or what a tool answered.
type responsesInput struct {
	Type      string `json:"type"`               // message, function_call, function_call_output
	Role      string `json:"role,omitzero"`      // of a message
	Content   any    `json:"content,omitzero"`   // of a message: a string or parts
	CallID    string `json:"call_id,omitzero"`   // of the others
	Name      string `json:"name,omitzero"`      // of a call
	Arguments any    `json:"arguments,omitzero"` // of a call: a string
	Output    any    `json:"output,omitzero"`    // a string or parts
}

// responsesChosen is a tool_choice that names functions.
type responsesChosen struct {
	Type  string            `json:"type"` // function, allowed_tools
	Name  string            `json:"name,omitzero"`
	Mode  string            `json:"mode,omitzero"` // of allowed_tools: auto, required
	Tools []responsesChosen `json:"tools,omitzero"`
}

func chatToResponsesRequest(body *jsonedit.Doc) (*Converted, error) {
	r, err := readChat(body, protocol.OpenAIResponses)
	if err != nil {
		return nil, err
	}
	if err := r.oneChoice(protocol.OpenAIResponses); err != nil {
		return nil, err
	}
	out := responsesRequest{
		Model: r.Model, ParallelToolCalls: r.ParallelToolCalls, MaxOutputTokens: r.limit(),
		Temperature: said(r.Temperature), TopP: said(r.TopP), Text: responsesTextOf(r), ServiceTier: r.ServiceTier,
		User: r.User, SafetyIdentifier: r.SafetyIdentifier, Metadata: said(r.Metadata), Stream: r.Stream,
		Store: r.Store != nil && *r.Store, Input: []responsesInput{},
	}
	if r.ReasoningEffort != "" {
		out.Reasoning = &responsesReasoning{Effort: r.ReasoningEffort}
	}
	for _, t := range r.Tools {
		f := &t.Function
		strict := f.Strict != nil && *f.Strict
		out.Tools = append(out.Tools, responsesFunction{"function", f.Name, f.Description, said(f.Parameters), &strict})
	}
	if len(out.Tools) > 0 {
		out.ToolChoice = responsesChoice(r)
	} else {
		out.ParallelToolCalls = nil
	}
	for i := range r.Messages {
		items, err := responsesItems(i, &r.Messages[i])
		if err != nil {
			return nil, err
		}
		if text, ok := instructions(i, items); ok && len(r.Messages) > 1 {
			out.Instructions = text
			continue
		}
		out.Input = append(out.Input, items...)
	}
	return &Converted{Body: encode(out), Answer: &chatOfResponses{chatWriter: chatWriter{
		body: body.Bytes(), model: r.Model, wantsUsage: r.asksForUsage(),
	}}}, nil
}

// instructions returns the text of the first message if it instructs; later ones keep their
// place in the conversation.
func instructions(i int, items []responsesInput) (string, bool) {
	if i > 0 || len(items) != 1 || items[0].Role != "system" && items[0].Role != "developer" {
		return "", false
	}
	text, ok := items[0].Content.(string)
	return text, ok && text != ""
}

func responsesTextOf(r *chatRequest) *responsesText {
	t := responsesText{Verbosity: r.Verbosity}
	if s, ok := r.schema(); ok {
		t.Format = &responsesFormat{"json_schema", s.Name, s.Description, said(s.Schema), s.Strict}
	} else if f := r.ResponseFormat; f != nil && f.Type != "json_schema" {
		t.Format = &responsesFormat{Type: f.Type}
	}
	if t.Format == nil && t.Verbosity == "" {
		return nil
	}
	return &t
}

func responsesChoice(r *chatRequest) any {
	mode, names := r.choice()
	switch {
	case mode == "":
		return nil
	case len(names) == 0:
		return mode
	case mode == "required" && len(names) == 1:
		return responsesChosen{Type: "function", Name: names[0]}
	}
	c := responsesChosen{Type: "allowed_tools", Mode: mode}
	for _, name := range names {
		c.Tools = append(c.Tools, responsesChosen{Type: "function", Name: name})
	}
	return c
}

// responsesItems converts message i, counting from 0: calls are items of their own.
func responsesItems(i int, m *chatMessage) (items []responsesInput, err error) {
	content, err := responsesContent(i, m)
	if err != nil {
		return nil, err
	}
	switch m.Role {
	case "system", "developer", "user":
		return []responsesInput{{Type: "message", Role: m.Role, Content: content}}, nil
	case "assistant":
		if content != "" {
			items = append(items, responsesInput{Type: "message", Role: m.Role, Content: content})
		}
		for _, c := range m.ToolCalls {
			items = append(items, responsesInput{
				Type: "function_call", CallID: c.ID, Name: c.Function.Name, Arguments: c.Function.Arguments,
			})
		}
		return items, nil
	case "tool":
		return []responsesInput{{Type: "function_call_output", CallID: m.ToolCallID, Output: content}}, nil
	}
	return nil, m.badRole(i, protocol.OpenAIResponses)
}

// responsesContent converts what message i says: a string if it is one, or parts.
func responsesContent(i int, m *chatMessage) (any, error) {
	list, err := m.parts(i)
	if err != nil {
		return nil, err
	}
	text := "input_text"
	if m.Role == "assistant" {
		text = "output_text"
	}
	if m.Content.Kind() != '[' && (len(list) == 0 || len(list) == 1 && list[0].Type == "text") {
		return texts(list), nil
	}
	parts := make([]responsesPart, len(list))
	for n, p := range list {
		switch {
		case p.Type == "text":
			parts[n] = responsesPart{Type: text, Text: p.Text}
		case p.Type == "refusal":
			parts[n] = responsesPart{Type: "refusal", Refusal: p.Refusal}
		case p.Type == "image_url" && p.ImageURL != nil && strings.HasPrefix(p.ImageURL.URL, "data:application/pdf;"):
			parts[n] = responsesPart{Type: "input_file", FileData: p.ImageURL.URL, Filename: "document.pdf"}
		case p.Type == "image_url" && p.ImageURL != nil:
			parts[n] = responsesPart{Type: "input_image", ImageURL: p.ImageURL.URL, Detail: p.ImageURL.Detail}
			if parts[n].Detail == "" {
				parts[n].Detail = "auto"
			}
		case p.Type == "file" && p.File != nil:
			f := p.File
			parts[n] = responsesPart{Type: "input_file", FileData: f.FileData, FileID: f.FileID, Filename: f.Filename}
		case p.Type == "input_audio" && p.InputAudio != nil:
			parts[n] = responsesPart{Type: "input_audio", InputAudio: p.InputAudio}
		default:
			return nil, place{i, n}.unknown(p, protocol.OpenAIResponses)
		}
	}
	return parts, nil
}

// responsesAnswer is the object of an answer as it is read, without its output.
type responsesAnswer struct {
	ID                string          `json:"id"`
	CreatedAt         float64         `json:"created_at"` // s since 1970
	Model             string          `json:"model"`
	Status            string          `json:"status"` // completed, incomplete, failed, …
	Error             jsontext.Value  `json:"error"`
	Usage             *responsesUsage `json:"usage"`
	IncompleteDetails *struct {
		Reason string `json:"reason"` // max_output_tokens, content_filter
	} `json:"incomplete_details"`
}

// responsesOutput is an item of the output.
type responsesOutput struct {
	Type      string          `json:"type"` // message, function_call, reasoning
	Content   []responsesPart `json:"content"`
	Summary   []responsesPart `json:"summary"` // of reasoning
	CallID    string          `json:"call_id"`
	Name      string          `json:"name"`
	Arguments string          `json:"arguments"`
}

// readOutput reads an item of the output. Those of types that are not converted have shapes of
// their own, and are nothing.
func readOutput(raw jsontext.Value) (item responsesOutput) {
	var kind struct {
		Type string `json:"type"`
	}
	readAnswer(raw, &kind)
	switch kind.Type {
	case "message", "function_call", "reasoning":
		if readAnswer(raw, &item) {
			return item
		}
	}
	return responsesOutput{}
}

func (u *responsesUsage) chat() *chatUsage {
	c := &chatUsage{PromptTokens: u.InputTokens, CompletionTokens: u.OutputTokens, TotalTokens: u.TotalTokens}
	if c.TotalTokens == 0 {
		c.TotalTokens = u.InputTokens + u.OutputTokens
	}
	if n := u.InputTokensDetails.CachedTokens; n > 0 {
		c.PromptTokensDetails = &promptDetails{CachedTokens: n}
	}
	if n := u.OutputTokensDetails.ReasoningTokens; n > 0 {
		c.CompletionTokensDetails = &completionDetails{ReasoningTokens: n}
	}
	return c
}

// finish says why the answer ended.
func (r *responsesAnswer) finish(calls int) string {
	if r.Status == "incomplete" && r.IncompleteDetails != nil {
		switch r.IncompleteDetails.Reason {
		case "max_output_tokens":
			return "length"
		case "content_filter":
			return "content_filter"
		}
	}
	return stopOrCalls(calls)
}

// chatOfResponses converts an answer of openai-responses.
type chatOfResponses struct {
	chatWriter
	calls    map[int]*responsesCall // by the index of their item
	thoughts bool                   // some reasoning was passed on
}

type responsesCall struct {
	n    int
	said bool // some of its arguments
}

func (a *chatOfResponses) head(r *responsesAnswer, raw []byte) {
	a.identity(r.ID, r.Model, int64(r.CreatedAt))
	a.name(raw)
	if r.Usage != nil {
		a.usage = r.Usage.chat()
	}
}

func (a *chatOfResponses) Whole(body []byte) ([]byte, error) {
	var r struct {
		responsesAnswer
		Output []jsontext.Value `json:"output"`
	}
	if !readAnswer(body, &r) || r.Output == nil {
		return nil, badAnswer("no output in response")
	}
	if r.Status == "failed" || r.Status == "cancelled" {
		e, _ := openAIErrorOf(r.Error)
		return nil, badAnswer("response " + r.Status + ": " + e.Message)
	}
	a.head(&r.responsesAnswer, body)
	var m wholeMessage
	for _, raw := range r.Output {
		switch item := readOutput(raw); item.Type {
		case "message":
			for _, p := range item.Content {
				switch p.Type {
				case "output_text":
					m.addText(p.Text)
				case "refusal":
					m.Refusal = appendText(m.Refusal, p.Refusal)
				}
			}
		case "reasoning":
			for _, p := range append(item.Summary, item.Content...) {
				if m.ReasoningContent != "" {
					m.ReasoningContent += "\n\n"
				}
				m.ReasoningContent += p.Text
			}
		case "function_call":
			m.addCall(chatToolCall{ID: item.CallID, Function: chatFunctionCall{Name: item.Name, Arguments: item.Arguments}})
		}
	}
	return a.whole([]wholeChoice{{Message: m.complete(), FinishReason: r.finish(len(m.ToolCalls))}}), nil
}

func (a *chatOfResponses) Error(status int, body []byte) []byte { return errorOfOpenAI(status, body) }

// errorOfOpenAI is for protocols that report errors alike.
func errorOfOpenAI(status int, body []byte) []byte {
	var v struct {
		Error jsontext.Value `json:"error"`
	}
	if readAnswer(body, &v) && v.Error.Kind() == '{' {
		return body
	}
	return encode(chatError{wrapError(status, body)})
}

type responsesEvent struct {
	Type         string           `json:"type"`
	Response     *responsesAnswer `json:"response"`
	OutputIndex  int              `json:"output_index"`
	SummaryIndex int              `json:"summary_index"`
	Item         jsontext.Value   `json:"item"`
	Delta        jsontext.Value   `json:"delta"`     // mostly a string
	Arguments    jsontext.Value   `json:"arguments"` // a string
	// Of the event "error".
	Error jsontext.Value `json:"error"`
}

// Event reads one event. Those that say again what was said are passed over.
func (a *chatOfResponses) Event(dst []byte, _ string, data []byte) []byte {
	if a.over {
		return dst
	}
	var e responsesEvent
	if !readAnswer(data, &e) {
		return dst
	}
	switch e.Type {
	case "response.created":
		if e.Response != nil {
			a.head(e.Response, data)
		}
	case "response.completed", "response.incomplete":
		return a.completed(dst, &e, data)
	case "response.failed":
		var failure jsontext.Value
		if e.Response != nil {
			failure = e.Response.Error
		}
		return a.failed(dst, failure, "the provider failed to answer")
	case "error":
		if said(e.Error) == nil {
			e.Error = data // its members are those of the error
		}
		return a.failed(dst, e.Error, "the provider reported an error")
	case "":
		if said(e.Error) != nil {
			return a.failed(dst, e.Error, "the provider reported an error")
		}
	default:
		if !a.written(0).finished {
			a.name(data)
			return a.piece(dst, &e)
		}
	}
	return dst
}

// piece converts an event that is about the content.
func (a *chatOfResponses) piece(dst []byte, e *responsesEvent) []byte {
	var text string
	if e.Delta.Kind() == '"' {
		text, _ = jsonedit.Unquote(e.Delta)
	}
	switch e.Type {
	case "response.output_text.delta":
		if text != "" {
			return a.delta(dst, 0, chatAnswer{Content: &text})
		}
	case "response.refusal.delta":
		if text != "" {
			return a.delta(dst, 0, chatAnswer{Refusal: &text})
		}
	case "response.reasoning_summary_part.added":
		if a.thoughts {
			return a.delta(dst, 0, chatAnswer{ReasoningContent: "\n\n"})
		}
	case "response.reasoning_summary_text.delta", "response.reasoning_text.delta":
		if text != "" {
			a.thoughts = true
			return a.delta(dst, 0, chatAnswer{ReasoningContent: text})
		}
	case "response.output_item.added":
		if item := readOutput(e.Item); item.Type == "function_call" {
			return a.began(dst, e.OutputIndex, &item)
		}
	case "response.function_call_arguments.delta":
		if c := a.calls[e.OutputIndex]; c != nil && text != "" {
			c.said = true
			return a.arguments(dst, 0, c.n, text)
		}
	case "response.function_call_arguments.done":
		// Some servers say the arguments only here, or in the item.
		return a.rest(dst, e.OutputIndex, plain(e.Arguments))
	case "response.output_item.done":
		if item := readOutput(e.Item); item.Type == "function_call" {
			dst = a.began(dst, e.OutputIndex, &item)
			return a.rest(dst, e.OutputIndex, item.Arguments)
		}
	}
	return dst
}

// began appends the beginning of a call, once.
func (a *chatOfResponses) began(dst []byte, index int, item *responsesOutput) []byte {
	if a.calls[index] != nil {
		return dst
	}
	if a.calls == nil {
		a.calls = map[int]*responsesCall{}
	}
	dst, n := a.call(dst, 0, chatToolCall{ID: item.CallID, Function: chatFunctionCall{Name: item.Name}})
	a.calls[index] = &responsesCall{n: n}
	return dst
}

// rest appends the arguments of a call of which nothing was said.
func (a *chatOfResponses) rest(dst []byte, index int, arguments string) []byte {
	c := a.calls[index]
	if c == nil || c.said || arguments == "" {
		return dst
	}
	c.said = true
	return a.arguments(dst, 0, c.n, arguments)
}

func (a *chatOfResponses) completed(dst []byte, e *responsesEvent, data []byte) []byte {
	r := e.Response
	if r == nil {
		r = &responsesAnswer{}
	}
	a.head(r, data)
	dst = a.finish(dst, 0, r.finish(a.written(0).calls))
	return a.end(dst)
}

func (a *chatOfResponses) failed(dst []byte, failure jsontext.Value, otherwise string) []byte {
	e, ok := openAIErrorOf(failure)
	if !ok || e.Message == "" {
		e.Message = otherwise
	}
	if e.Type == "" || e.Type == "error" {
		e.Type = openAIErrorType(http.StatusInternalServerError)
		if c := string(e.Code); c == `"rate_limit_exceeded"` {
			e.Type = openAIErrorType(http.StatusTooManyRequests)
		}
	}
	return a.fail(dst, e)
}

// Close appends the end if the event was missing that tells it.
func (a *chatOfResponses) Close(dst []byte) []byte { return a.end(dst) }
