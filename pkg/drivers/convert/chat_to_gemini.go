package convert

import (
	"fmt"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/gosix/gosix/pkg/drivers/protocol"
	"github.com/gosix/gosix/pkg/jsonedit"
)

// chatToGemini lets clients of openai-chat reach Gemini in its own protocol, generateContent
// and streamGenerateContent with alt=sse. The model and whether to stream are for the path to
// say. Schemas pass as they are, as parametersJsonSchema and responseJsonSchema.
//
// What Gemini has no place for is left out: parallel_tool_calls, user, metadata, store,
// service_tier, and the reasoning of earlier answers.
var chatToGemini = &Conversion{
	From:    protocol.OpenAIChat,
	To:      protocol.GeminiGenerate,
	Request: chatToGeminiRequest,
}

type geminiRequest struct {
	SystemInstruction *geminiContent    `json:"systemInstruction,omitzero"`
	Contents          []geminiContent   `json:"contents"`
	Tools             []geminiTool      `json:"tools,omitzero"`
	ToolConfig        *geminiToolConfig `json:"toolConfig,omitzero"`
	GenerationConfig  geminiConfig      `json:"generationConfig,omitzero"`
}

type geminiContent struct {
	Role  string       `json:"role,omitzero"` // user, model; none in instructions
	Parts []geminiPart `json:"parts"`
}

// geminiPart has one of its members, and says of it whether it is a thought.
type geminiPart struct {
	Text             *string               `json:"text,omitzero"`
	InlineData       *geminiBlob           `json:"inlineData,omitzero"`
	FileData         *geminiFile           `json:"fileData,omitzero"`
	FunctionCall     *geminiCall           `json:"functionCall,omitzero"`
	FunctionResponse *geminiFunctionResult `json:"functionResponse,omitzero"`
	Thought          bool                  `json:"thought,omitzero"`
	ThoughtSignature string                `json:"thoughtSignature,omitzero"` // base64
}

type geminiBlob struct {
	MIMEType string `json:"mimeType"`
	Data     string `json:"data"` // base64
}

type geminiFile struct {
	MIMEType string `json:"mimeType,omitzero"`
	FileURI  string `json:"fileUri"`
}

type geminiCall struct {
	ID   string         `json:"id,omitzero"` // older models give none
	Name string         `json:"name"`
	Args jsontext.Value `json:"args,omitzero"` // an object
}

type geminiFunctionResult struct {
	ID       string         `json:"id,omitzero"`
	Name     string         `json:"name"`
	Response jsontext.Value `json:"response"` // an object
}

type geminiTool struct {
	FunctionDeclarations []geminiFunction `json:"functionDeclarations"`
}

type geminiFunction struct {
	Name                 string         `json:"name"`
	Description          string         `json:"description,omitzero"`
	ParametersJSONSchema jsontext.Value `json:"parametersJsonSchema,omitzero"`
}

type geminiToolConfig struct {
	FunctionCallingConfig geminiCalling `json:"functionCallingConfig"`
}

type geminiCalling struct {
	Mode                 string   `json:"mode"` // AUTO, ANY, NONE, VALIDATED
	AllowedFunctionNames []string `json:"allowedFunctionNames,omitzero"`
}

type geminiConfig struct {
	MaxOutputTokens    jsontext.Value  `json:"maxOutputTokens,omitzero"`
	Temperature        jsontext.Value  `json:"temperature,omitzero"`
	TopP               jsontext.Value  `json:"topP,omitzero"`
	TopK               jsontext.Value  `json:"topK,omitzero"`
	StopSequences      []string        `json:"stopSequences,omitzero"`
	Seed               jsontext.Value  `json:"seed,omitzero"`
	CandidateCount     jsontext.Value  `json:"candidateCount,omitzero"`
	PresencePenalty    jsontext.Value  `json:"presencePenalty,omitzero"`
	FrequencyPenalty   jsontext.Value  `json:"frequencyPenalty,omitzero"`
	ResponseMIMEType   string          `json:"responseMimeType,omitzero"`
	ResponseJSONSchema jsontext.Value  `json:"responseJsonSchema,omitzero"`
	ThinkingConfig     *geminiThinking `json:"thinkingConfig,omitzero"`
}

type geminiThinking struct {
	IncludeThoughts bool   `json:"includeThoughts,omitzero"`
	ThinkingBudget  *int   `json:"thinkingBudget,omitzero"` // tokens
	ThinkingLevel   string `json:"thinkingLevel,omitzero"`
}

func chatToGeminiRequest(body *jsonedit.Doc) (*Converted, error) {
	r, err := readChat(body, protocol.GeminiGenerate)
	if err != nil {
		return nil, err
	}
	var out geminiRequest
	if out.GenerationConfig, err = geminiSettings(r); err != nil {
		return nil, err
	}
	geminiTools(&out, r)
	g := geminiWriter{strict: thinksInLevels(r.Model), names: map[string]string{}}
	for i := range r.Messages {
		if err := g.message(i, &r.Messages[i]); err != nil {
			return nil, err
		}
	}
	if out.Contents = g.contents; len(g.system) > 0 {
		if len(out.Contents) == 0 {
			// There has to be something to answer to.
			out.Contents = []geminiContent{{Role: "user", Parts: g.system}}
		} else {
			out.SystemInstruction = &geminiContent{Parts: g.system}
		}
	}
	return &Converted{Body: encode(out), Answer: &chatOfGemini{chatWriter{
		body: body.Bytes(), model: r.Model, wantsUsage: r.asksForUsage(),
	}}}, nil
}

func geminiSettings(r *chatRequest) (c geminiConfig, err error) {
	if c.StopSequences, err = r.stops(); err != nil {
		return c, err
	}
	c.MaxOutputTokens = r.limit()
	c.Temperature = said(r.Temperature)
	c.TopP = said(r.TopP)
	c.TopK = said(r.TopK)
	c.Seed = said(r.Seed)
	c.CandidateCount = said(r.N)
	c.PresencePenalty = said(r.PresencePenalty)
	c.FrequencyPenalty = said(r.FrequencyPenalty)
	if schema, ok := r.schema(); ok {
		c.ResponseMIMEType, c.ResponseJSONSchema = "application/json", said(schema.Schema)
	} else if f := r.ResponseFormat; f != nil && f.Type == "json_object" {
		c.ResponseMIMEType = "application/json"
	}
	c.ThinkingConfig = geminiEffort(r.ReasoningEffort, r.Model)
	return c, nil
}

// geminiBudgets are tokens to think with by effort, as Google's own translation has them.
var geminiBudgets = map[string]int{
	"none": 0, "minimal": 1024, "low": 1024, "medium": 8192, "high": 24576, "xhigh": 24576, "max": 24576,
}

// geminiLevels are the words for an effort. There is none for not thinking at all.
var geminiLevels = map[string]string{
	"none": "minimal", "minimal": "minimal", "low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high",
}

// geminiEffort says how much to think. A client that says so may see the thoughts.
func geminiEffort(effort, model string) *geminiThinking {
	budget, ok := geminiBudgets[effort]
	if !ok {
		return nil
	}
	t := &geminiThinking{IncludeThoughts: effort != "none"}
	if thinksInLevels(model) {
		t.ThinkingLevel = geminiLevels[effort]
	} else {
		t.ThinkingBudget = &budget
	}
	return t
}

// thinksInLevels reports whether a model has levels of thinking instead of budgets, and wants
// its signatures back with every call. Those before the third generation do not; of a model
// whose name says nothing, what all take is the safe thing.
func thinksInLevels(model string) bool { return strings.Contains(model, "gemini-3") }

func geminiTools(out *geminiRequest, r *chatRequest) {
	var list []geminiFunction
	for _, t := range r.Tools {
		f := &t.Function
		list = append(list, geminiFunction{f.Name, f.Description, said(f.Parameters)})
	}
	if len(list) == 0 {
		return
	}
	out.Tools = []geminiTool{{list}}
	mode, names := r.choice()
	calling := geminiCalling{AllowedFunctionNames: names}
	switch mode {
	case "auto":
		if calling.Mode = "AUTO"; len(names) > 0 {
			calling.Mode = "VALIDATED" // AUTO does not take names
		}
	case "required":
		calling.Mode = "ANY"
	case "none":
		calling = geminiCalling{Mode: "NONE"}
	default:
		return
	}
	out.ToolConfig = &geminiToolConfig{calling}
}

// geminiWriter puts the conversation together.
type geminiWriter struct {
	strict   bool // a call without a signature is refused
	system   []geminiPart
	contents []geminiContent
	names    map[string]string // of functions, by the id of a call
	results  bool              // the last content is what tools answered
}

// noSignature stands for the signature of a call that was made elsewhere, or by a client that
// did not keep it; Google documents the word.
const noSignature = "skip_thought_signature_validator"

// message converts message i, counting from 0.
func (g *geminiWriter) message(i int, m *chatMessage) error {
	if m.Role == "tool" {
		return g.result(i, m)
	}
	parts, err := geminiParts(i, m)
	if err != nil {
		return err
	}
	role := "user"
	switch m.Role {
	case "system", "developer":
		g.system = append(g.system, parts...)
		return nil
	case "assistant":
		role = "model"
		for n, c := range m.ToolCalls {
			parts = append(parts, g.call(n, c))
		}
	case "user":
	default:
		return m.badRole(i, protocol.GeminiGenerate)
	}
	if len(parts) > 0 {
		g.contents = append(g.contents, geminiContent{role, parts})
		g.results = false
	}
	return nil
}

// call converts the n-th call of a message. The first of them carries the signature.
func (g *geminiWriter) call(n int, c chatToolCall) geminiPart {
	g.names[c.ID] = c.Function.Name
	p := geminiPart{FunctionCall: &geminiCall{c.ID, c.Function.Name, argumentsObject(c.Function.Arguments)}}
	if e := c.ExtraContent; e != nil && e.Google != nil {
		p.ThoughtSignature = e.Google.ThoughtSignature
	}
	if g.strict && n == 0 && p.ThoughtSignature == "" {
		p.ThoughtSignature = noSignature
	}
	return p
}

// result converts what a tool answered. All answers to the calls of one message are one
// content; an image follows the answer that it belongs to.
func (g *geminiWriter) result(i int, m *chatMessage) error {
	name, ok := g.names[m.ToolCallID]
	if !ok {
		if name = m.Name; name == "" {
			return badRequest(fmt.Sprintf("messages[%d]: no tool call before it has the id %q", i, m.ToolCallID))
		}
	}
	list, err := m.parts(i)
	if err != nil {
		return err
	}
	text := texts(list)
	response := jsontext.Value(text)
	if response.Kind() != '{' || jsonedit.Check(response, jsonedit.Options{}) != nil {
		response = encode(map[string]string{"output": text})
	}
	parts := []geminiPart{{FunctionResponse: &geminiFunctionResult{m.ToolCallID, name, response}}}
	for n, p := range list {
		if p.Type == "text" {
			continue
		}
		more, err := geminiPartOf(place{i, n}, p)
		if err != nil {
			return err
		}
		parts = append(parts, more)
	}
	if g.results {
		last := &g.contents[len(g.contents)-1]
		last.Parts = append(last.Parts, parts...)
		return nil
	}
	g.contents = append(g.contents, geminiContent{"user", parts})
	g.results = true
	return nil
}

// geminiParts converts the content of message i. Texts that are empty are refused, so they are
// left out.
func geminiParts(i int, m *chatMessage) (parts []geminiPart, err error) {
	list, err := m.parts(i)
	if err != nil {
		return nil, err
	}
	for n, p := range list {
		if p.Type == "refusal" {
			p = chatPart{Type: "text", Text: p.Refusal}
		}
		if p.Type == "text" && p.Text == "" {
			continue
		}
		part, err := geminiPartOf(place{i, n}, p)
		if err != nil {
			return nil, err
		}
		parts = append(parts, part)
	}
	return parts, nil
}

func geminiPartOf(at place, p chatPart) (geminiPart, error) {
	switch {
	case p.Type == "text":
		return geminiPart{Text: &p.Text}, nil
	case p.Type == "image_url" && p.ImageURL != nil:
		return geminiMedia(p.ImageURL.URL, "image/jpeg"), nil
	case p.Type == "input_audio" && p.InputAudio != nil:
		return geminiPart{InlineData: &geminiBlob{"audio/" + p.InputAudio.Format, p.InputAudio.Data}}, nil
	case p.Type == "file" && p.File != nil:
		if p.File.FileData == "" {
			return geminiPart{}, at.refuse(noData)
		}
		return geminiMedia(p.File.FileData, mediaTypeOf(p.File.Filename, "application/pdf")), nil
	}
	return geminiPart{}, at.unknown(p, protocol.GeminiGenerate)
}

// geminiMedia converts a data: URL into its data and leaves every other address to Google. Of
// those the name has to tell the type.
func geminiMedia(address, otherwise string) geminiPart {
	if mediaType, data, ok := splitDataURL(address); ok {
		if mediaType == "" {
			mediaType = otherwise
		}
		return geminiPart{InlineData: &geminiBlob{mediaType, data}}
	}
	name, _, _ := strings.Cut(address, "?")
	return geminiPart{FileData: &geminiFile{mediaTypeOf(name, otherwise), address}}
}

// mediaTypes by the end of a name, without those of the operating system: the same name is the
// same everywhere.
var mediaTypes = map[string]string{
	".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".gif": "image/gif", ".webp": "image/webp",
	".heic": "image/heic", ".heif": "image/heif", ".pdf": "application/pdf", ".txt": "text/plain", ".md": "text/md",
	".csv": "text/csv", ".html": "text/html", ".mp4": "video/mp4", ".webm": "video/webm", ".mov": "video/mov",
	".mp3": "audio/mp3", ".wav": "audio/wav",
}

func mediaTypeOf(name, otherwise string) string {
	if t, ok := mediaTypes[strings.ToLower(path.Ext(name))]; ok {
		return t
	}
	return otherwise
}

type geminiResponse struct {
	Candidates     []geminiCandidate `json:"candidates"`
	PromptFeedback *geminiFeedback   `json:"promptFeedback"`
	UsageMetadata  *geminiUsage      `json:"usageMetadata"`
	ModelVersion   string            `json:"modelVersion"`
	ResponseID     string            `json:"responseId"`
	CreateTime     string            `json:"createTime"` // RFC 3339; Vertex AI alone has it
	Error          jsontext.Value    `json:"error"`
}

type geminiCandidate struct {
	Index        int           `json:"index"`
	Content      geminiContent `json:"content"`
	FinishReason string        `json:"finishReason"`
}

type geminiFeedback struct {
	BlockReason string `json:"blockReason"`
}

// geminiUsage counts tokens. Thoughts are not among those of the candidates, what is cached is
// among those of the prompt.
type geminiUsage struct {
	PromptTokenCount        int64 `json:"promptTokenCount"`
	CandidatesTokenCount    int64 `json:"candidatesTokenCount"`
	TotalTokenCount         int64 `json:"totalTokenCount"`
	CachedContentTokenCount int64 `json:"cachedContentTokenCount"`
	ThoughtsTokenCount      int64 `json:"thoughtsTokenCount"`
	ToolUsePromptTokenCount int64 `json:"toolUsePromptTokenCount"`
}

func (u *geminiUsage) chat() *chatUsage {
	c := &chatUsage{
		PromptTokens:     u.PromptTokenCount + u.ToolUsePromptTokenCount,
		CompletionTokens: u.CandidatesTokenCount + u.ThoughtsTokenCount,
		TotalTokens:      u.TotalTokenCount,
	}
	if c.TotalTokens == 0 {
		c.TotalTokens = c.PromptTokens + c.CompletionTokens
	}
	if n := u.CachedContentTokenCount; n > 0 {
		c.PromptTokensDetails = &promptDetails{CachedTokens: n}
	}
	if n := u.ThoughtsTokenCount; n > 0 {
		c.CompletionTokensDetails = &completionDetails{ReasoningTokens: n}
	}
	return c
}

// blocked reports whether the prompt was refused, so that there are no candidates.
func (r *geminiResponse) blocked() bool {
	f := r.PromptFeedback
	return len(r.Candidates) == 0 && f != nil && f.BlockReason != "" && !strings.HasSuffix(f.BlockReason, "_UNSPECIFIED")
}

// understood reports whether it is an answer at all.
func (r *geminiResponse) understood() bool {
	return r.Candidates != nil || r.PromptFeedback != nil || r.UsageMetadata != nil
}

// geminiFinish says why a candidate ended; empty while it goes on.
func geminiFinish(reason string, calls int) string {
	switch reason {
	case "", "FINISH_REASON_UNSPECIFIED":
		return ""
	case "MAX_TOKENS", "CONTINUATION":
		return "length"
	case "SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "MODEL_ARMOR",
		"IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION":
		return "content_filter"
	}
	return stopOrCalls(calls)
}

// chatOfGemini converts an answer of gemini-generate.
type chatOfGemini struct{ chatWriter }

// head takes over what the answer says of itself.
func (a *chatOfGemini) head(r *geminiResponse, raw []byte) {
	var created int64
	if t, err := time.Parse(time.RFC3339, r.CreateTime); err == nil {
		created = t.Unix()
	}
	a.identity(r.ResponseID, r.ModelVersion, created)
	a.name(raw)
	if r.UsageMetadata != nil {
		a.usage = r.UsageMetadata.chat()
	}
}

// toolCall converts the n-th call of a choice.
func (a *chatOfGemini) toolCall(choice, n int, p *geminiPart) chatToolCall {
	c := chatToolCall{ID: p.FunctionCall.ID}
	if c.ID == "" {
		c.ID = a.callID(choice, n)
	}
	c.Function = chatFunctionCall{Name: p.FunctionCall.Name, Arguments: "{}"}
	if args := p.FunctionCall.Args; args.Kind() == '{' {
		c.Function.Arguments = compact(args)
	}
	if p.ThoughtSignature != "" {
		c.ExtraContent = &extraContent{&googleContent{p.ThoughtSignature}}
	}
	return c
}

// compact returns a raw value without the space between its parts.
func compact(v jsontext.Value) string {
	v = v.Clone()
	_ = v.Compact(jsontext.AllowDuplicateNames(true))
	return string(v)
}

func (a *chatOfGemini) Whole(body []byte) ([]byte, error) {
	var r geminiResponse
	if !readAnswer(body, &r) || !r.understood() {
		return nil, badAnswer("no candidates in response")
	}
	a.head(&r, body)
	if r.blocked() {
		return a.whole([]wholeChoice{{Message: wholeMessage{}.complete(), FinishReason: "content_filter"}}), nil
	}
	if len(r.Candidates) == 0 {
		return nil, badAnswer("no candidates in response")
	}
	choices := make([]wholeChoice, len(r.Candidates))
	for i, c := range r.Candidates {
		var m wholeMessage
		for _, p := range c.Content.Parts {
			switch {
			case p.FunctionCall != nil:
				m.addCall(a.toolCall(c.Index, len(m.ToolCalls), &p))
			case p.Text == nil || *p.Text == "":
			case p.Thought:
				m.ReasoningContent += *p.Text
			default:
				m.addText(*p.Text)
			}
		}
		finish := geminiFinish(c.FinishReason, len(m.ToolCalls))
		if finish == "" {
			finish = stopOrCalls(len(m.ToolCalls))
		}
		choices[i] = wholeChoice{Index: c.Index, Message: m.complete(), FinishReason: finish}
	}
	return a.whole(choices), nil
}

func (a *chatOfGemini) Error(status int, body []byte) []byte {
	return encode(chatError{googleError(status, body)})
}

func (a *chatOfGemini) Event(dst []byte, _ string, data []byte) []byte {
	if a.over {
		return dst
	}
	var r geminiResponse
	if !readAnswer(data, &r) {
		return dst
	}
	if said(r.Error) != nil {
		return a.fail(dst, googleError(http.StatusInternalServerError, data))
	}
	if !r.understood() {
		return dst
	}
	a.head(&r, data)
	if r.blocked() {
		return a.finish(dst, 0, "content_filter")
	}
	for _, c := range r.Candidates {
		if c.Index < 0 || a.written(c.Index).finished {
			continue
		}
		for _, p := range c.Content.Parts {
			switch {
			case p.FunctionCall != nil:
				dst, _ = a.call(dst, c.Index, a.toolCall(c.Index, a.written(c.Index).calls, &p))
			case p.Text == nil || *p.Text == "":
			case p.Thought:
				dst = a.delta(dst, c.Index, chatAnswer{ReasoningContent: *p.Text})
			default:
				dst = a.delta(dst, c.Index, chatAnswer{Content: p.Text})
			}
		}
		if finish := geminiFinish(c.FinishReason, a.written(c.Index).calls); finish != "" {
			dst = a.finish(dst, c.Index, finish)
		}
	}
	return dst
}

// Close appends the end. The protocol has no terminator, and the count of tokens may follow
// the reason.
func (a *chatOfGemini) Close(dst []byte) []byte { return a.end(dst) }
