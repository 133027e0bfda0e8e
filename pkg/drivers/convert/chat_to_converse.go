package convert

import (
	"fmt"
	"net/http"
	"path"
	"regexp"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/gosix/gosix/pkg/drivers/protocol"
	"github.com/gosix/gosix/pkg/jsonedit"
)

// chatToConverse lets clients of openai-chat reach Bedrock's Converse and ConverseStream. The
// model and whether to stream are for the path to say.
//
// What Converse has no place for is left out: parallel_tool_calls, user, metadata, store, the
// strictness of tools, a response_format of json_object, and the reasoning of earlier answers. A tool_choice of none leaves out the tools, unless calls of
// them are in the conversation: then Converse asks for their declarations.
var chatToConverse = &Conversion{
	From:    protocol.OpenAIChat,
	To:      protocol.BedrockConverse,
	Request: chatToConverseRequest,
}

type converseRequest struct {
	Messages        []converseMessage     `json:"messages"`
	System          []converseBlock       `json:"system,omitzero"`
	InferenceConfig converseInference     `json:"inferenceConfig,omitzero"`
	ToolConfig      *converseToolConfig   `json:"toolConfig,omitzero"`
	OutputConfig    *converseOutputConfig `json:"outputConfig,omitzero"`
	ServiceTier     *converseTier         `json:"serviceTier,omitzero"`
	// AdditionalModelRequestFields are of the model's own protocol.
	AdditionalModelRequestFields map[string]any `json:"additionalModelRequestFields,omitzero"`
}

type converseMessage struct {
	Role    string          `json:"role"` // user, assistant
	Content []converseBlock `json:"content"`
}

// converseBlock has one of its members.
type converseBlock struct {
	Text             *string            `json:"text,omitzero"`
	Image            *converseImage     `json:"image,omitzero"`
	Document         *converseDocument  `json:"document,omitzero"`
	ToolUse          *converseToolUse   `json:"toolUse,omitzero"`
	ToolResult       *converseResult    `json:"toolResult,omitzero"`
	ReasoningContent *converseReasoning `json:"reasoningContent,omitzero"` // in answers
}

type converseImage struct {
	Format string         `json:"format"` // png, jpeg, gif, webp
	Source converseSource `json:"source"`
}

type converseDocument struct {
	Format string         `json:"format"` // pdf, csv, doc, docx, xls, xlsx, html, txt, md
	Name   string         `json:"name"`
	Source converseSource `json:"source"`
}

type converseSource struct {
	Bytes      string      `json:"bytes,omitzero"` // base64
	S3Location *s3Location `json:"s3Location,omitzero"`
}

type s3Location struct {
	URI string `json:"uri"`
}

type converseToolUse struct {
	ToolUseID string         `json:"toolUseId"`
	Name      string         `json:"name"`
	Input     jsontext.Value `json:"input"` // an object
}

type converseResult struct {
	ToolUseID string          `json:"toolUseId"`
	Content   []converseBlock `json:"content"`
}

type converseReasoning struct {
	ReasoningText struct {
		Text string `json:"text"`
	} `json:"reasoningText"`
}

type converseInference struct {
	MaxTokens     jsontext.Value `json:"maxTokens,omitzero"`
	Temperature   jsontext.Value `json:"temperature,omitzero"`
	TopP          jsontext.Value `json:"topP,omitzero"`
	StopSequences []string       `json:"stopSequences,omitzero"`
}

type converseToolConfig struct {
	Tools      []converseTool  `json:"tools"`
	ToolChoice *converseChoice `json:"toolChoice,omitzero"`
}

type converseTool struct {
	ToolSpec converseToolSpec `json:"toolSpec"`
}

type converseToolSpec struct {
	Name        string         `json:"name"`
	Description string         `json:"description,omitzero"`
	InputSchema converseSchema `json:"inputSchema"`
}

type converseSchema struct {
	JSON jsontext.Value `json:"json"`
}

// converseChoice has one of its members.
type converseChoice struct {
	Auto *struct{}         `json:"auto,omitzero"`
	Any  *struct{}         `json:"any,omitzero"`
	Tool *converseToolName `json:"tool,omitzero"`
}

type converseToolName struct {
	Name string `json:"name"`
}

type converseOutputConfig struct {
	TextFormat converseTextFormat `json:"textFormat"`
}

type converseTextFormat struct {
	Type      string            `json:"type"` // json_schema
	Structure converseStructure `json:"structure"`
}

type converseStructure struct {
	JSONSchema converseJSONSchema `json:"jsonSchema"`
}

type converseJSONSchema struct {
	Schema      string `json:"schema"` // JSON text
	Name        string `json:"name,omitzero"`
	Description string `json:"description,omitzero"`
}

type converseTier struct {
	Type string `json:"type"` // default, priority, flex
}

func chatToConverseRequest(body *jsonedit.Doc) (*Converted, error) {
	r, err := readChat(body, protocol.BedrockConverse)
	if err != nil {
		return nil, err
	}
	if err := r.oneChoice(protocol.BedrockConverse); err != nil {
		return nil, err
	}
	var c converseWriter
	for i := range r.Messages {
		if err := c.message(i, &r.Messages[i]); err != nil {
			return nil, err
		}
	}
	out := converseRequest{Messages: c.messages, System: c.system}
	if len(out.Messages) == 0 && len(c.system) > 0 {
		// There has to be something to answer to.
		out.Messages, out.System = []converseMessage{{"user", c.system}}, nil
	}
	stops, err := r.stops()
	if err != nil {
		return nil, err
	}
	out.InferenceConfig = converseInference{r.limit(), said(r.Temperature), said(r.TopP), stops}
	out.ToolConfig = converseTools(r, c.called)
	if schema, ok := r.schema(); ok && said(schema.Schema) != nil {
		out.OutputConfig = &converseOutputConfig{converseTextFormat{"json_schema", converseStructure{
			converseJSONSchema{compact(schema.Schema), schema.Name, schema.Description},
		}}}
	}
	if t := r.ServiceTier; t == "priority" || t == "flex" {
		out.ServiceTier = &converseTier{t}
	}
	converseExtras(&out, r)
	return &Converted{Body: encode(out), Answer: &chatOfConverse{chatWriter: chatWriter{
		body: body.Bytes(), model: r.Model, wantsUsage: r.asksForUsage(),
	}}}, nil
}

// converseTools declares the tools. Those that were called before have to be declared even if
// the client does not do so any more.
func converseTools(r *chatRequest, called []string) *converseToolConfig {
	mode, names := r.choice()
	var list []chatFunction
	if mode != "none" || len(called) > 0 {
		for _, t := range r.Tools {
			list = append(list, t.Function)
		}
	}
	if len(list) == 0 {
		for _, name := range called {
			list = append(list, chatFunction{Name: name})
		}
	}
	if len(list) == 0 {
		return nil
	}
	t := &converseToolConfig{}
	for _, f := range list {
		schema := said(f.Parameters)
		if schema == nil {
			schema = jsontext.Value(`{"type":"object","properties":{}}`)
		}
		t.Tools = append(t.Tools, converseTool{converseToolSpec{f.Name, f.Description, converseSchema{schema}}})
	}
	switch {
	case mode == "auto":
		t.ToolChoice = &converseChoice{Auto: new(struct{})}
	case mode == "required" && len(names) == 1:
		t.ToolChoice = &converseChoice{Tool: &converseToolName{names[0]}}
	case mode == "required":
		t.ToolChoice = &converseChoice{Any: new(struct{})}
	}
	return t
}

// claudeBudgets are tokens to think with by effort (spec/06 §A7, the other way round).
var claudeBudgets = map[string]int64{"low": 1024, "medium": 2048, "high": 4096, "xhigh": 8192, "max": 16384}

// leastBudget is the least that Claude takes.
const leastBudget = 1024

// converseExtras says in the model's own words what Converse has none for. Models refuse what
// they do not know, so that only those get it whose names tell that they do.
func converseExtras(out *converseRequest, r *chatRequest) {
	extras := map[string]any{}
	add := func(name string, v jsontext.Value) {
		if v = said(v); v != nil {
			extras[name] = v
		}
	}
	model := r.Model
	switch {
	case strings.Contains(model, "anthropic."):
		add("top_k", r.TopK)
		if budget := claudeBudget(out, r); budget > 0 {
			extras["thinking"] = map[string]any{"type": "enabled", "budget_tokens": budget}
			// Nor may these be set while it thinks.
			out.InferenceConfig.Temperature, out.InferenceConfig.TopP = nil, nil
			delete(extras, "top_k")
		}
	case strings.Contains(model, "amazon.nova"):
		if r.TopK = said(r.TopK); r.TopK != nil {
			extras["inferenceConfig"] = map[string]any{"topK": r.TopK}
		}
		switch r.ReasoningEffort {
		case "low", "medium", "high":
			extras["reasoningConfig"] = map[string]any{"type": "enabled", "maxReasoningEffort": r.ReasoningEffort}
		}
	case strings.Contains(model, "openai.") || strings.Contains(model, "qwen.") || strings.Contains(model, "deepseek."):
		add("top_k", r.TopK)
		add("seed", r.Seed)
		add("presence_penalty", r.PresencePenalty)
		add("frequency_penalty", r.FrequencyPenalty)
		if r.ReasoningEffort != "" {
			extras["reasoning_effort"] = r.ReasoningEffort
		}
	}
	if len(extras) > 0 {
		out.AdditionalModelRequestFields = extras
	}
}

// claudeBudget returns with how many tokens Claude is to think, 0: it is not. It may not where
// a call is forced, nor after a call whose thoughts are not known any more, and it leaves half
// of the tokens to the answer.
func claudeBudget(out *converseRequest, r *chatRequest) int64 {
	budget := claudeBudgets[r.ReasoningEffort]
	if t := out.ToolConfig; t != nil && t.ToolChoice != nil && t.ToolChoice.Auto == nil {
		return 0
	}
	if r.Messages[len(r.Messages)-1].Role == "tool" {
		return 0
	}
	var limit int64
	if v := r.limit(); v != nil && readAnswer(v, &limit) {
		budget = min(budget, limit/2)
	}
	if budget < leastBudget {
		return 0
	}
	return budget
}

// converseWriter puts the conversation together.
type converseWriter struct {
	system   []converseBlock
	messages []converseMessage
	called   []string // names of functions that were called, in order
}

// message converts message i, counting from 0.
func (c *converseWriter) message(i int, m *chatMessage) error {
	list, err := m.parts(i)
	if err != nil {
		return err
	}
	var blocks []converseBlock
	for n, p := range list {
		if blocks, err = appendConverseBlock(blocks, place{i, n}, p); err != nil {
			return err
		}
	}
	switch m.Role {
	case "system", "developer":
		c.system = append(c.system, blocks...)
	case "user":
		c.add("user", blocks)
	case "assistant":
		for _, call := range m.ToolCalls {
			name := call.Function.Name
			c.called = appendNew(c.called, name)
			blocks = append(blocks, converseBlock{ToolUse: &converseToolUse{
				converseID(call.ID), name, argumentsObject(call.Function.Arguments),
			}})
		}
		c.add("assistant", blocks)
	case "tool":
		if blocks == nil {
			blocks = []converseBlock{}
		}
		c.add("user", []converseBlock{{ToolResult: &converseResult{converseID(m.ToolCallID), blocks}}})
	default:
		return m.badRole(i, protocol.BedrockConverse)
	}
	return nil
}

// add appends blocks to the message of that role. The roles have to take turns.
func (c *converseWriter) add(role string, blocks []converseBlock) {
	if len(blocks) == 0 {
		return
	}
	if n := len(c.messages); n > 0 && c.messages[n-1].Role == role {
		c.messages[n-1].Content = append(c.messages[n-1].Content, blocks...)
		return
	}
	c.messages = append(c.messages, converseMessage{role, blocks})
}

func appendNew(list []string, s string) []string {
	for _, old := range list {
		if old == s {
			return list
		}
	}
	return append(list, s)
}

var converseIDs = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,64}$`)

// converseID returns the id of a call in letters that Bedrock takes, the same one each time.
func converseID(id string) string {
	if converseIDs.MatchString(id) {
		return id
	}
	return "call_" + digest([]byte(id))
}

// appendConverseBlock converts one part of message i. A text in which nothing stands is
// refused, so it is left out.
func appendConverseBlock(blocks []converseBlock, at place, p chatPart) ([]converseBlock, error) {
	switch {
	case p.Type == "text" || p.Type == "refusal":
		text := p.Text + p.Refusal
		if strings.TrimSpace(text) == "" {
			return blocks, nil
		}
		return append(blocks, converseBlock{Text: &text}), nil
	case p.Type == "image_url" && p.ImageURL != nil && strings.HasPrefix(p.ImageURL.URL, "data:application/pdf;"):
		document, err := converseDocumentOf(at, &chatFile{FileData: p.ImageURL.URL})
		return append(blocks, converseBlock{Document: document}), err
	case p.Type == "image_url" && p.ImageURL != nil:
		image, err := converseImageOf(at, p.ImageURL.URL)
		return append(blocks, converseBlock{Image: image}), err
	case p.Type == "file" && p.File != nil:
		document, err := converseDocumentOf(at, p.File)
		return append(blocks, converseBlock{Document: document}), err
	}
	return nil, at.unknown(p, protocol.BedrockConverse)
}

var converseImageFormats = map[string]string{
	"image/png": "png", "image/jpeg": "jpeg", "image/jpg": "jpeg", "image/gif": "gif", "image/webp": "webp",
}

func converseImageOf(at place, address string) (*converseImage, error) {
	mediaType, data, ok := splitDataURL(address)
	source := converseSource{Bytes: data}
	if !ok {
		if !strings.HasPrefix(address, "s3://") {
			return nil, at.refuse("an image has to be given as a data: URL, Bedrock fetches no addresses")
		}
		mediaType = mediaTypeOf(address, "")
		source.S3Location = &s3Location{address}
	}
	format, ok := converseImageFormats[mediaType]
	if !ok {
		return nil, at.refuse(fmt.Sprintf("an image has to be png, jpeg, gif or webp, got %q", mediaType))
	}
	return &converseImage{format, source}, nil
}

var converseDocumentFormats = map[string]string{
	"application/pdf": "pdf", "text/csv": "csv", "text/html": "html", "text/plain": "txt", "text/markdown": "md",
	"application/msword": "doc", "application/vnd.ms-excel": "xls",
	"application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
	"application/vnd.openxmlformats-officedocument.spreadsheetml.sheet":       "xlsx",
}

// notInNames is what a document's name may not have, and more than one space.
var notInNames = regexp.MustCompile(`[^a-zA-Z0-9()\[\]-]+`)

func converseDocumentOf(at place, f *chatFile) (*converseDocument, error) {
	mediaType, data, ok := splitDataURL(f.FileData)
	if !ok {
		return nil, at.refuse(noData)
	}
	format, ok := converseDocumentFormats[mediaType]
	if !ok {
		return nil, at.refuse(fmt.Sprintf("a file of type %q is not supported by %s", mediaType, protocol.BedrockConverse))
	}
	name := strings.TrimSuffix(f.Filename, path.Ext(f.Filename))
	if name = strings.TrimSpace(notInNames.ReplaceAllString(name, " ")); name == "" {
		name = "document"
	}
	return &converseDocument{format, name, converseSource{Bytes: data}}, nil
}

type converseResponse struct {
	Output struct {
		Message *converseMessage `json:"message"`
	} `json:"output"`
	StopReason string         `json:"stopReason"`
	Usage      *converseUsage `json:"usage"`
}

// converseUsage counts tokens. What is cached is not among those of the input.
type converseUsage struct {
	InputTokens           int64 `json:"inputTokens"`
	OutputTokens          int64 `json:"outputTokens"`
	CacheReadInputTokens  int64 `json:"cacheReadInputTokens"`
	CacheWriteInputTokens int64 `json:"cacheWriteInputTokens"`
}

func (u *converseUsage) chat() *chatUsage {
	prompt := u.InputTokens + u.CacheReadInputTokens + u.CacheWriteInputTokens
	c := &chatUsage{PromptTokens: prompt, CompletionTokens: u.OutputTokens, TotalTokens: prompt + u.OutputTokens}
	if u.CacheReadInputTokens > 0 || u.CacheWriteInputTokens > 0 {
		c.PromptTokensDetails = &promptDetails{u.CacheReadInputTokens, u.CacheWriteInputTokens}
	}
	return c
}

func converseFinish(reason string) string {
	switch reason {
	case "max_tokens", "model_context_window_exceeded":
		return "length"
	case "tool_use":
		return "tool_calls"
	case "guardrail_intervened", "content_filtered":
		return "content_filter"
	}
	return "stop"
}

// chatOfConverse converts an answer of bedrock-converse.
type chatOfConverse struct {
	chatWriter
	calls map[int]*converseCall // by the index of their block
}

type converseCall struct {
	n    int
	said bool // some of its arguments
}

func (a *chatOfConverse) Whole(body []byte) ([]byte, error) {
	var r converseResponse
	if !readAnswer(body, &r) || r.Output.Message == nil {
		return nil, badAnswer("no message in response")
	}
	a.name(body)
	if r.Usage != nil {
		a.usage = r.Usage.chat()
	}
	var m wholeMessage
	for _, b := range r.Output.Message.Content {
		switch {
		case b.Text != nil:
			m.addText(*b.Text)
		case b.ReasoningContent != nil:
			m.ReasoningContent += b.ReasoningContent.ReasoningText.Text
		case b.ToolUse != nil:
			arguments := "{}"
			if b.ToolUse.Input.Kind() == '{' {
				arguments = compact(b.ToolUse.Input)
			}
			m.addCall(chatToolCall{ID: b.ToolUse.ToolUseID, Function: chatFunctionCall{Name: b.ToolUse.Name, Arguments: arguments}})
		}
	}
	return a.whole([]wholeChoice{{Message: m.complete(), FinishReason: converseFinish(r.StopReason)}}), nil
}

func (a *chatOfConverse) Error(status int, body []byte) []byte {
	return encode(chatError{converseError(status, "", body)})
}

// converseError converts an exception, which has a name in streams alone.
func converseError(status int, name string, body []byte) chatErrorBody {
	var e struct {
		Message      string `json:"message"`
		OtherMessage string `json:"Message"`
		Type         string `json:"__type"`
	}
	if !readAnswer(body, &e) || e.Message+e.OtherMessage == "" {
		w := wrapError(status, body)
		if name != "" {
			w.Code = encode(name)
		}
		return w
	}
	if name == "" {
		_, name, _ = strings.Cut(e.Type, "#") // a namespace may stand before it
		if name == "" {
			name = e.Type
		}
	}
	return openAIError(status, e.Message+e.OtherMessage, name)
}

// exceptions are the statuses of what may go wrong within a stream.
var exceptions = map[string]int{
	"throttlingException":         http.StatusTooManyRequests,
	"validationException":         http.StatusBadRequest,
	"accessDeniedException":       http.StatusForbidden,
	"resourceNotFoundException":   http.StatusNotFound,
	"serviceUnavailableException": http.StatusServiceUnavailable,
	"modelStreamErrorException":   http.StatusFailedDependency,
	"modelTimeoutException":       http.StatusRequestTimeout,
	"internalServerException":     http.StatusInternalServerError,
}

// exceptionStatus returns the status of an exception; false if the event is none.
func exceptionStatus(kind string) (int, bool) {
	if !strings.HasSuffix(kind, "xception") && !strings.HasSuffix(kind, "rror") {
		return 0, false
	}
	for name, status := range exceptions {
		if strings.EqualFold(name, kind) {
			return status, true
		}
	}
	return http.StatusInternalServerError, true
}

type converseEvent struct {
	ContentBlockIndex int `json:"contentBlockIndex"`
	Start             struct {
		ToolUse *struct {
			ToolUseID string `json:"toolUseId"`
			Name      string `json:"name"`
		} `json:"toolUse"`
	} `json:"start"`
	Delta struct {
		Text    *string `json:"text"`
		ToolUse *struct {
			Input string `json:"input"`
		} `json:"toolUse"`
		ReasoningContent *struct {
			Text string `json:"text"`
		} `json:"reasoningContent"`
	} `json:"delta"`
	StopReason string         `json:"stopReason"`
	Usage      *converseUsage `json:"usage"`
}

func (a *chatOfConverse) Event(dst []byte, kind string, data []byte) []byte {
	if a.over {
		return dst
	}
	if status, ok := exceptionStatus(kind); ok {
		return a.fail(dst, converseError(status, kind, data))
	}
	var e converseEvent
	if !readAnswer(data, &e) {
		return dst
	}
	a.name(data)
	switch kind {
	case "contentBlockStart":
		return a.blockStart(dst, &e)
	case "contentBlockDelta":
		return a.blockDelta(dst, &e)
	case "contentBlockStop":
		// A call without arguments says nothing of them, but clients read them as JSON.
		if c := a.calls[e.ContentBlockIndex]; c != nil && !c.said {
			c.said = true
			return a.arguments(dst, 0, c.n, "{}")
		}
	case "messageStop":
		return a.finish(dst, 0, converseFinish(e.StopReason))
	case "metadata":
		if e.Usage != nil {
			a.usage = e.Usage.chat()
		}
		if a.written(0).finished {
			return a.end(dst)
		}
	}
	return dst
}

func (a *chatOfConverse) blockStart(dst []byte, e *converseEvent) []byte {
	use := e.Start.ToolUse
	if use == nil || a.calls[e.ContentBlockIndex] != nil || a.written(0).finished {
		return dst
	}
	if a.calls == nil {
		a.calls = map[int]*converseCall{}
	}
	dst, n := a.call(dst, 0, chatToolCall{ID: use.ToolUseID, Function: chatFunctionCall{Name: use.Name}})
	a.calls[e.ContentBlockIndex] = &converseCall{n: n}
	return dst
}

func (a *chatOfConverse) blockDelta(dst []byte, e *converseEvent) []byte {
	if a.written(0).finished {
		return dst
	}
	switch d := &e.Delta; {
	case d.Text != nil && *d.Text != "":
		return a.delta(dst, 0, chatAnswer{Content: d.Text})
	case d.ReasoningContent != nil && d.ReasoningContent.Text != "":
		return a.delta(dst, 0, chatAnswer{ReasoningContent: d.ReasoningContent.Text})
	case d.ToolUse != nil && d.ToolUse.Input != "":
		if c := a.calls[e.ContentBlockIndex]; c != nil {
			c.said = true
			return a.arguments(dst, 0, c.n, d.ToolUse.Input)
		}
	}
	return dst
}

// Close appends the end if the event was missing that tells it.
func (a *chatOfConverse) Close(dst []byte) []byte { return a.end(dst) }
