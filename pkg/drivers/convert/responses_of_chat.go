package convert

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/gosix/gosix/pkg/drivers/sse"
)

// responsesOfChat converts an answer of openai-chat for a client of openai-responses. Of
// several choices it takes the first.
type responsesOfChat struct {
	request responsesBody
	body    []byte // of the request

	id      string // what all ids of this answer end with
	model   string
	created int64
	usage   *responsesUsage
	finish  string // the reason that the provider gave

	sequence int  // of the next event
	began    bool // response.created was said
	over     bool // the last event was said

	items []*responsesPiece // of the output, in order
	talk  *responsesPiece   // the item of text or reasoning that is open; calls are open to the end
	calls map[int]*responsesPiece
}

// responsesPiece is an item of the output while it grows.
type responsesPiece struct {
	index int
	kind  string // message, refusal, reasoning, function_call
	id    string
	text  strings.Builder // or arguments
	name  string
	call  string // the id by which a call is answered
	done  bool
}

func (a *responsesOfChat) Stamp(id string, created int64) {
	if id != "" {
		a.id = id
	}
	a.created = created
}

// responsesObject is a response, as far as it is made.
type responsesObject struct {
	ID                 string            `json:"id"`
	Object             string            `json:"object"`
	CreatedAt          int64             `json:"created_at"`
	Status             string            `json:"status"`
	Background         bool              `json:"background"`
	Error              *responsesFailure `json:"error"`
	IncompleteDetails  *responsesReason  `json:"incomplete_details"`
	Instructions       jsontext.Value    `json:"instructions"`
	MaxOutputTokens    jsontext.Value    `json:"max_output_tokens"`
	Model              string            `json:"model"`
	Output             []any             `json:"output"`
	ParallelToolCalls  bool              `json:"parallel_tool_calls"`
	PreviousResponseID *string           `json:"previous_response_id"`
	Reasoning          responsesThought  `json:"reasoning"`
	ServiceTier        string            `json:"service_tier,omitzero"`
	Store              bool              `json:"store"`
	Temperature        jsontext.Value    `json:"temperature"`
	Text               jsontext.Value    `json:"text"`
	ToolChoice         jsontext.Value    `json:"tool_choice"`
	Tools              jsontext.Value    `json:"tools"`
	TopP               jsontext.Value    `json:"top_p"`
	Truncation         string            `json:"truncation"`
	Usage              *responsesUsage   `json:"usage"`
	User               *string           `json:"user"`
	Metadata           jsontext.Value    `json:"metadata"`
}

type responsesFailure struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

type responsesReason struct {
	Reason string `json:"reason"`
}

type responsesThought struct {
	Effort  *string `json:"effort"`
	Summary *string `json:"summary"`
}

func orElse(v jsontext.Value, otherwise string) jsontext.Value {
	if v = said(v); v != nil {
		return v
	}
	return jsontext.Value(otherwise)
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// object returns the response with that status. It says again what was asked for.
func (a *responsesOfChat) object(status string) *responsesObject {
	r := &a.request
	o := &responsesObject{
		ID: "resp_" + a.id, Object: "response", CreatedAt: a.created, Status: status, Model: a.model,
		Instructions: said(r.Instructions), MaxOutputTokens: said(r.MaxOutputTokens),
		ParallelToolCalls: r.ParallelToolCalls == nil || *r.ParallelToolCalls, ServiceTier: r.ServiceTier,
		Temperature: orElse(r.Temperature, "1"), TopP: orElse(r.TopP, "1"), Truncation: "disabled",
		Text: orElse(r.Text, `{"format":{"type":"text"}}`), ToolChoice: orElse(r.ToolChoice, `"auto"`),
		Tools: orElse(r.Tools, "[]"), User: orNull(r.User), Metadata: orElse(r.Metadata, "{}"),
	}
	if r.Reasoning != nil {
		o.Reasoning = responsesThought{orNull(r.Reasoning.Effort), orNull(r.Reasoning.Summary)}
	}
	return o
}

// final returns the response at its end.
func (a *responsesOfChat) final() *responsesObject {
	o := a.object("completed")
	switch a.finish {
	case "length":
		o.Status, o.IncompleteDetails = "incomplete", &responsesReason{"max_output_tokens"}
	case "content_filter":
		o.Status, o.IncompleteDetails = "incomplete", &responsesReason{"content_filter"}
	}
	for i, p := range a.items {
		status := "completed"
		if i == len(a.items)-1 {
			status = o.Status
		}
		o.Output = append(o.Output, p.item(status))
	}
	o.Usage = a.usage
	return o
}

// Items of the output.
type (
	responsesMessage struct {
		ID      string `json:"id"`
		Type    string `json:"type"`
		Status  string `json:"status"`
		Role    string `json:"role"`
		Content []any  `json:"content"`
	}
	responsesCallItem struct {
		ID        string `json:"id"`
		Type      string `json:"type"`
		Status    string `json:"status"`
		Arguments string `json:"arguments"`
		CallID    string `json:"call_id"`
		Name      string `json:"name"`
	}
	responsesReasoningItem struct {
		ID      string `json:"id"`
		Type    string `json:"type"`
		Summary []any  `json:"summary"`
	}
	responsesOutputText struct {
		Type        string `json:"type"`
		Annotations []any  `json:"annotations"`
		Logprobs    []any  `json:"logprobs"`
		Text        string `json:"text"`
	}
	responsesRefusal struct {
		Type    string `json:"type"`
		Refusal string `json:"refusal"`
	}
	responsesSummary struct {
		Type string `json:"type"`
		Text string `json:"text"`
	}
)

// part is what stands in the item, with that text.
func (p *responsesPiece) part(text string) any {
	switch p.kind {
	case "refusal":
		return responsesRefusal{"refusal", text}
	case "reasoning":
		return responsesSummary{"summary_text", text}
	}
	return responsesOutputText{Type: "output_text", Text: text}
}

// item is the item as a whole. One in progress has no content yet.
func (p *responsesPiece) item(status string) any {
	var content []any
	if status != "in_progress" {
		content = []any{p.part(p.text.String())}
	}
	switch p.kind {
	case "function_call":
		c := responsesCallItem{ID: p.id, Type: p.kind, Status: status, CallID: p.call, Name: p.name}
		if status != "in_progress" {
			c.Arguments = p.text.String()
		}
		return c
	case "reasoning":
		return responsesReasoningItem{p.id, p.kind, content}
	}
	return responsesMessage{p.id, "message", status, "assistant", content}
}

// chatRead is an answer of openai-chat, or a chunk of one, as it is read: leniently, for many
// providers speak the protocol in their own way.
type chatRead struct {
	ID      string  `json:"id"`
	Created float64 `json:"created"` // s since 1970
	Model   string  `json:"model"`
	Choices []struct {
		Index        int       `json:"index"`
		Message      *chatSaid `json:"message"` // of a whole answer
		Delta        *chatSaid `json:"delta"`   // of a chunk
		FinishReason string    `json:"finish_reason"`
	} `json:"choices"`
	Usage *chatUsage     `json:"usage"`
	Error jsontext.Value `json:"error"`
}

type chatSaid struct {
	Content          jsontext.Value `json:"content"` // a string; parts of Mistral's models that think
	Refusal          jsontext.Value `json:"refusal"`
	ReasoningContent jsontext.Value `json:"reasoning_content"`
	Reasoning        jsontext.Value `json:"reasoning"`
	ToolCalls        []chatCallRead `json:"tool_calls"`
}

type chatCallRead struct {
	Index    *int   `json:"index"`
	ID       string `json:"id"`
	Function struct {
		Name      string         `json:"name"`
		Arguments jsontext.Value `json:"arguments"` // a string; some give the object itself
	} `json:"function"`
}

// textOf is what a string says, or the parts of a list that are text.
func textOf(v jsontext.Value) string {
	switch v.Kind() {
	case '"':
		return plain(v)
	case '[':
		var parts []chatPart
		if readAnswer(v, &parts) {
			return texts(parts)
		}
	}
	return ""
}

// thought is the reasoning in an answer, under whichever of its names.
func (m *chatSaid) thought() string {
	if t := textOf(m.ReasoningContent); t != "" {
		return t
	}
	return textOf(m.Reasoning)
}

// head takes over what the provider says of the answer.
func (a *responsesOfChat) head(r *chatRead, raw []byte) {
	if a.began {
		return
	}
	if r.ID != "" {
		a.id = digest([]byte(r.ID))
	} else if a.id == "" {
		a.id = digest(a.body, raw)
	}
	if r.Model != "" {
		a.model = r.Model
	}
	if r.Created > 0 {
		a.created = int64(r.Created)
	}
}

func (a *responsesOfChat) count(u *chatUsage) {
	if u == nil {
		return
	}
	a.usage = &responsesUsage{InputTokens: u.PromptTokens, OutputTokens: u.CompletionTokens, TotalTokens: u.TotalTokens}
	if d := u.PromptTokensDetails; d != nil {
		a.usage.InputTokensDetails.CachedTokens = d.CachedTokens
	}
	if d := u.CompletionTokensDetails; d != nil {
		a.usage.OutputTokensDetails.ReasoningTokens = d.ReasoningTokens
	}
	if a.usage.TotalTokens == 0 {
		a.usage.TotalTokens = u.PromptTokens + u.CompletionTokens
	}
}

func (a *responsesOfChat) Whole(body []byte) ([]byte, error) {
	var r chatRead
	if !readAnswer(body, &r) || len(r.Choices) == 0 || r.Choices[0].Message == nil {
		return nil, badAnswer("no choices in response")
	}
	a.head(&r, body)
	a.count(r.Usage)
	if f := r.Choices[0].FinishReason; f != "" {
		a.finish = f
	}
	m := r.Choices[0].Message
	content, refusal := textOf(m.Content), textOf(m.Refusal)
	if t := m.thought(); t != "" {
		a.open("reasoning").text.WriteString(t)
	}
	if content != "" || refusal == "" && len(m.ToolCalls) == 0 {
		a.open("message").text.WriteString(content)
	}
	if refusal != "" {
		a.open("refusal").text.WriteString(refusal)
	}
	for i, c := range m.ToolCalls {
		a.openCall(i, &c).text.WriteString(plain(c.Function.Arguments))
	}
	return encode(a.final()), nil
}

func (a *responsesOfChat) Error(status int, body []byte) []byte { return errorOfOpenAI(status, body) }

// idPrefixes of items by kind.
var idPrefixes = map[string]string{"message": "msg_", "refusal": "msg_", "reasoning": "rs_", "function_call": "fc_"}

// open adds an item to the output.
func (a *responsesOfChat) open(kind string) *responsesPiece {
	p := &responsesPiece{index: len(a.items), kind: kind}
	p.id = idPrefixes[kind] + a.id + "_" + strconv.Itoa(p.index)
	a.items = append(a.items, p)
	return p
}

// openCall adds the call with that number.
func (a *responsesOfChat) openCall(n int, c *chatCallRead) *responsesPiece {
	p := a.open("function_call")
	if p.name, p.call = c.Function.Name, c.ID; p.call == "" {
		p.call = "call_" + digest([]byte(p.id))
	}
	if a.calls == nil {
		a.calls = map[int]*responsesPiece{}
	}
	a.calls[n] = p
	return p
}

// responsesMade is an event. Which members it has depends on its type.
type responsesMade struct {
	Type         string           `json:"type"`
	Sequence     int              `json:"sequence_number"`
	Response     *responsesObject `json:"response,omitzero"`
	ItemID       string           `json:"item_id,omitzero"`
	OutputIndex  *int             `json:"output_index,omitzero"`
	ContentIndex *int             `json:"content_index,omitzero"`
	SummaryIndex *int             `json:"summary_index,omitzero"`
	Item         any              `json:"item,omitzero"`
	Part         any              `json:"part,omitzero"`
	Delta        *string          `json:"delta,omitzero"`
	Text         *string          `json:"text,omitzero"`
	Refusal      *string          `json:"refusal,omitzero"`
	Name         string           `json:"name,omitzero"`
	Arguments    *string          `json:"arguments,omitzero"`
	Logprobs     *[]any           `json:"logprobs,omitzero"`
}

// event appends an event, numbered and with its type as its name.
func (a *responsesOfChat) event(dst []byte, e responsesMade) []byte {
	e.Sequence = a.sequence
	a.sequence++
	dst = append(append(append(dst, "event: "...), e.Type...), '\n')
	return sse.AppendEvent(dst, encode(e))
}

// about appends an event about an item.
func (a *responsesOfChat) about(dst []byte, p *responsesPiece, e responsesMade) []byte {
	e.ItemID, e.OutputIndex = p.id, &p.index
	zero := 0
	switch p.kind {
	case "message", "refusal":
		e.ContentIndex = &zero
	case "reasoning":
		e.SummaryIndex = &zero
	}
	return a.event(dst, e)
}

// begin appends what a stream begins with.
func (a *responsesOfChat) begin(dst []byte) []byte {
	if a.began {
		return dst
	}
	a.began = true
	dst = a.event(dst, responsesMade{Type: "response.created", Response: a.object("in_progress")})
	return a.event(dst, responsesMade{Type: "response.in_progress", Response: a.object("in_progress")})
}

// added appends that an item began.
func (a *responsesOfChat) added(dst []byte, p *responsesPiece) []byte {
	dst = a.event(dst, responsesMade{
		Type: "response.output_item.added", OutputIndex: &p.index, Item: p.item("in_progress"),
	})
	switch p.kind {
	case "message", "refusal":
		dst = a.about(dst, p, responsesMade{Type: "response.content_part.added", Part: p.part("")})
	case "reasoning":
		dst = a.about(dst, p, responsesMade{Type: "response.reasoning_summary_part.added", Part: p.part("")})
	}
	return dst
}

// deltas are the types of events for a piece of an item.
var deltas = map[string]string{
	"message":       "response.output_text",
	"refusal":       "response.refusal",
	"reasoning":     "response.reasoning_summary_text",
	"function_call": "response.function_call_arguments",
}

// grow appends a piece of an item.
func (a *responsesOfChat) grow(dst []byte, p *responsesPiece, piece string) []byte {
	p.text.WriteString(piece)
	e := responsesMade{Type: deltas[p.kind] + ".delta", Delta: &piece}
	if p.kind == "message" {
		e.Logprobs = new([]any)
	}
	return a.about(dst, p, e)
}

// done appends that an item is complete, or as much of it as there will be.
func (a *responsesOfChat) done(dst []byte, p *responsesPiece, status string) []byte {
	if p.done {
		return dst
	}
	p.done = true
	text := p.text.String()
	e := responsesMade{Type: deltas[p.kind] + ".done"}
	after := responsesMade{Type: "response.content_part.done", Part: p.part(text)}
	switch p.kind {
	case "message":
		e.Text, e.Logprobs = &text, new([]any)
	case "refusal":
		e.Refusal = &text
	case "reasoning":
		e.Text = &text
		after.Type = "response.reasoning_summary_part.done"
	case "function_call":
		e.Name, e.Arguments = p.name, &text
		after.Type = ""
	}
	if dst = a.about(dst, p, e); after.Type != "" {
		dst = a.about(dst, p, after)
	}
	return a.event(dst, responsesMade{
		Type: "response.output_item.done", OutputIndex: &p.index, Item: p.item(status),
	})
}

// say appends a piece of text, a refusal or reasoning: to the item that is open if it is one
// of those, or else to a new one.
func (a *responsesOfChat) say(dst []byte, kind, piece string) []byte {
	if piece == "" {
		return dst
	}
	if a.talk == nil || a.talk.kind != kind {
		dst = a.hush(dst)
		a.talk = a.open(kind)
		dst = a.added(dst, a.talk)
	}
	return a.grow(dst, a.talk, piece)
}

// hush closes the item of text or reasoning that is open.
func (a *responsesOfChat) hush(dst []byte) []byte {
	if a.talk != nil {
		dst = a.done(dst, a.talk, "completed")
		a.talk = nil
	}
	return dst
}

// call appends a piece of a call. Pieces of several calls may come mixed.
func (a *responsesOfChat) call(dst []byte, c *chatCallRead) []byte {
	n := len(a.calls)
	if c.Index != nil {
		n = *c.Index
	} else if c.ID == "" && n > 0 {
		n-- // of the call before
	}
	p := a.calls[n]
	if p == nil {
		dst = a.hush(dst)
		p = a.openCall(n, c)
		dst = a.added(dst, p)
	}
	if piece := plain(c.Function.Arguments); piece != "" {
		dst = a.grow(dst, p, piece)
	}
	return dst
}

func (a *responsesOfChat) Event(dst []byte, _ string, data []byte) []byte {
	if a.over {
		return dst
	}
	if string(data) == "[DONE]" {
		return a.end(dst)
	}
	var r chatRead
	if !readAnswer(data, &r) {
		return dst
	}
	if said(r.Error) != nil {
		return a.fail(dst, r.Error)
	}
	if r.Choices == nil && r.Usage == nil {
		return dst
	}
	a.head(&r, data)
	dst = a.begin(dst)
	a.count(r.Usage)
	for _, c := range r.Choices {
		if c.Index != 0 {
			continue
		}
		if d := c.Delta; d != nil {
			dst = a.say(dst, "reasoning", d.thought())
			dst = a.say(dst, "message", textOf(d.Content))
			dst = a.say(dst, "refusal", textOf(d.Refusal))
			for _, call := range d.ToolCalls {
				dst = a.call(dst, &call)
			}
		}
		if f := c.FinishReason; f != "" && f != "null" {
			a.finish = f
		}
	}
	return dst
}

// end appends what a stream ends with, once; the count of tokens came after the reason. A
// stream of which nothing was understood has no end.
func (a *responsesOfChat) end(dst []byte) []byte {
	if a.over || !a.began {
		return dst
	}
	a.over = true
	if len(a.items) == 0 {
		a.talk = a.open("message")
		dst = a.added(dst, a.talk)
	}
	o := a.final()
	for i, p := range a.items {
		status := "completed"
		if i == len(a.items)-1 {
			status = o.Status
		}
		dst = a.done(dst, p, status)
	}
	return a.event(dst, responsesMade{Type: "response." + o.Status, Response: o})
}

// fail appends an error: within a response it failed, before it there is none.
func (a *responsesOfChat) fail(dst []byte, raw jsontext.Value) []byte {
	a.over = true
	e, ok := openAIErrorOf(raw)
	if !ok || e.Message == "" {
		e.Message = "the provider reported an error"
	}
	code := plain(e.Code)
	if code == "" {
		code = e.Type
	}
	if code == "" {
		code = openAIErrorType(http.StatusInternalServerError)
	}
	if !a.began {
		dst = append(dst, "event: error\n"...)
		return sse.AppendEvent(dst, encode(responsesFailed{"error", a.sequence, code, e.Message, e.Param}))
	}
	o := a.object("failed")
	o.Error = &responsesFailure{failureCode(e.Type, code), e.Message}
	for i, p := range a.items {
		status := "completed"
		if !p.done && i == len(a.items)-1 {
			status = "incomplete"
		}
		o.Output = append(o.Output, p.item(status))
	}
	return a.event(dst, responsesMade{Type: "response.failed", Response: o})
}

// failureCode says why a response failed, in the words that there are for that.
func failureCode(kind, code string) string {
	switch {
	case kind == "rate_limit_error" || strings.HasPrefix(code, "rate_limit"):
		return "rate_limit_exceeded"
	case kind == "invalid_request_error":
		return "invalid_prompt"
	}
	return openAIErrorType(http.StatusInternalServerError)
}

// responsesFailed is the event for an error before there is a response.
type responsesFailed struct {
	Type     string  `json:"type"`
	Sequence int     `json:"sequence_number"`
	Code     string  `json:"code"`
	Message  string  `json:"message"`
	Param    *string `json:"param"`
}

func (a *responsesOfChat) Close(dst []byte) []byte { return a.end(dst) }
