package convert

import (
	"fmt"
	"slices"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/gosix/gosix/pkg/drivers/protocol"
	"github.com/gosix/gosix/pkg/jsonedit"
)

// responsesToChat lets clients of openai-responses reach providers of openai-chat. Whatever
// needs a provider that keeps responses is refused: previous_response_id, conversation, prompt,
// background, references to items.
//
// Left out is what has no place in openai-chat: tools that are no functions, since they are run
// by OpenAI, and what they said; reasoning items; metadata and store, which are about keeping;
// include, truncation, max_tool_calls, top_logprobs.
var responsesToChat = &Conversion{
	From:    protocol.OpenAIResponses,
	To:      protocol.OpenAIChat,
	Request: responsesToChatRequest,
}

// responsesBody is a request as it is read. Raw members stand again in the answer.
type responsesBody struct {
	Model              string              `json:"model"`
	Instructions       jsontext.Value      `json:"instructions"`
	Input              jsontext.Value      `json:"input"` // a string, or a list of items
	Tools              jsontext.Value      `json:"tools"`
	ToolChoice         jsontext.Value      `json:"tool_choice"`
	ParallelToolCalls  *bool               `json:"parallel_tool_calls"`
	MaxOutputTokens    jsontext.Value      `json:"max_output_tokens"`
	Temperature        jsontext.Value      `json:"temperature"`
	TopP               jsontext.Value      `json:"top_p"`
	Text               jsontext.Value      `json:"text"`
	Reasoning          *responsesReasoning `json:"reasoning"`
	ServiceTier        string              `json:"service_tier"`
	User               string              `json:"user"`
	SafetyIdentifier   string              `json:"safety_identifier"`
	Metadata           jsontext.Value      `json:"metadata"`
	Stream             bool                `json:"stream"`
	Background         bool                `json:"background"`
	PreviousResponseID jsontext.Value      `json:"previous_response_id"`
	Conversation       jsontext.Value      `json:"conversation"`
	Prompt             jsontext.Value      `json:"prompt"`
}

// kept names what the request needs that only a provider has that keeps it; empty: nothing.
func (r *responsesBody) kept() string {
	switch {
	case said(r.PreviousResponseID) != nil:
		return "previous_response_id"
	case said(r.Conversation) != nil:
		return "conversation"
	case said(r.Prompt) != nil:
		return "prompt"
	case r.Background:
		return "background"
	}
	return ""
}

func responsesToChatRequest(body *jsonedit.Doc) (*Converted, error) {
	var r responsesBody
	if err := readRequest(body, &r); err != nil {
		return nil, err
	}
	if name := r.kept(); name != "" {
		return nil, badRequest(name + " is not supported by this provider, which keeps nothing: send the whole conversation in input")
	}
	out := chatRequest{
		Model: r.Model, ParallelToolCalls: r.ParallelToolCalls, MaxCompletionTokens: said(r.MaxOutputTokens),
		Temperature: said(r.Temperature), TopP: said(r.TopP), ServiceTier: r.ServiceTier, User: r.User,
		SafetyIdentifier: r.SafetyIdentifier, Stream: r.Stream,
	}
	if r.Stream {
		out.StreamOptions = &streamOptions{IncludeUsage: true}
	}
	if r.Reasoning != nil {
		out.ReasoningEffort = r.Reasoning.Effort
	}
	if err := r.text(&out); err != nil {
		return nil, err
	}
	if err := r.tools(&out); err != nil {
		return nil, err
	}
	var w messagesWriter
	if k := said(r.Instructions).Kind(); k != 0 && k != '"' {
		return nil, badRequest("invalid value at /instructions")
	}
	if text := plain(r.Instructions); text != "" {
		w.add(chatMessage{Role: "system", Content: encode(text)})
	}
	if err := w.input(r.Input); err != nil {
		return nil, err
	}
	out.Messages = w.messages
	return &Converted{Body: encode(out), Answer: &responsesOfChat{
		request: r, body: body.Bytes(), model: r.Model, finish: "stop",
	}}, nil
}

func (r *responsesBody) text(out *chatRequest) error {
	if said(r.Text) == nil {
		return nil
	}
	var t responsesText
	if json.Unmarshal(r.Text, &t, jsontext.AllowDuplicateNames(true)) != nil {
		return badRequest("invalid value at /text")
	}
	out.Verbosity = t.Verbosity
	switch f := t.Format; {
	case f == nil || f.Type == "text":
	case f.Type == "json_schema":
		out.ResponseFormat = &responseFormat{f.Type, &jsonSchema{f.Name, f.Description, said(f.Schema), f.Strict}}
	default:
		out.ResponseFormat = &responseFormat{Type: f.Type}
	}
	return nil
}

// tools converts the functions and which of them are to be used. openai-chat has lists of
// allowed tools too, but hardly a provider knows them: what is not allowed is left out instead.
func (r *responsesBody) tools(out *chatRequest) error {
	var list []responsesFunction
	if said(r.Tools) != nil && json.Unmarshal(r.Tools, &list, jsontext.AllowDuplicateNames(true)) != nil {
		return badRequest("invalid value at /tools")
	}
	var choice responsesChosen
	switch r.ToolChoice.Kind() {
	case '"':
		choice.Mode = plain(r.ToolChoice)
	case '{':
		if json.Unmarshal(r.ToolChoice, &choice, jsontext.AllowDuplicateNames(true)) != nil {
			return badRequest("invalid value at /tool_choice")
		}
	}
	allowed := func(name string) bool {
		return choice.Type != "allowed_tools" ||
			slices.ContainsFunc(choice.Tools, func(t responsesChosen) bool { return t.Name == name })
	}
	for _, t := range list {
		if t.Type == "function" && allowed(t.Name) {
			out.Tools = append(out.Tools, chatTool{"function", chatFunction{t.Name, t.Description, said(t.Parameters), t.Strict}})
		}
	}
	switch {
	case len(out.Tools) == 0:
		out.ParallelToolCalls = nil
	case choice.Type == "function":
		out.ToolChoice = encode(chatTool{"function", chatFunction{Name: choice.Name}})
	case choice.Mode != "":
		out.ToolChoice = encode(choice.Mode)
	}
	return nil
}

// messagesWriter puts the conversation together.
type messagesWriter struct{ messages []chatMessage }

func (w *messagesWriter) add(m chatMessage) { w.messages = append(w.messages, m) }

// responsesItem is an item of the input as it is read.
type responsesItem struct {
	Type      string         `json:"type"` // missing: message
	Role      string         `json:"role"`
	Content   jsontext.Value `json:"content"` // a string or parts
	CallID    string         `json:"call_id"`
	Name      string         `json:"name"`
	Arguments string         `json:"arguments"`
	Output    jsontext.Value `json:"output"` // a string or parts
}

func (w *messagesWriter) input(input jsontext.Value) error {
	switch input.Kind() {
	case '"':
		w.add(chatMessage{Role: "user", Content: input})
		return nil
	case '[':
	default:
		return badRequest("input is neither a string nor a list")
	}
	var items []jsontext.Value
	if json.Unmarshal(input, &items, jsontext.AllowDuplicateNames(true)) != nil {
		return badRequest("input is neither a string nor a list")
	}
	for i, raw := range items {
		var item responsesItem
		if json.Unmarshal(raw, &item, jsontext.AllowDuplicateNames(true)) != nil {
			return badRequest(fmt.Sprintf("input[%d]: not an item", i))
		}
		if err := w.item(i, &item); err != nil {
			return err
		}
	}
	if len(w.messages) == 0 {
		return badRequest("input is empty")
	}
	return nil
}

// passedOver are items that only tell what OpenAI itself thought or ran.
var passedOver = map[string]bool{
	"reasoning": true, "web_search_call": true, "file_search_call": true, "code_interpreter_call": true,
	"image_generation_call": true, "mcp_list_tools": true, "mcp_call": true,
}

// item converts item i, counting from 0.
func (w *messagesWriter) item(i int, item *responsesItem) error {
	switch {
	case item.Type == "message" || item.Type == "" && item.Role != "":
		return w.message(i, item)
	case item.Type == "function_call":
		// Calls belong to the message before them, in which the model speaks.
		m := w.assistant()
		m.ToolCalls = append(m.ToolCalls, chatToolCall{
			ID: item.CallID, Type: "function", Function: chatFunctionCall{Name: item.Name, Arguments: item.Arguments},
		})
		return nil
	case item.Type == "function_call_output":
		content, err := chatContent(i, item.Output)
		if err != nil {
			return err
		}
		w.add(chatMessage{Role: "tool", ToolCallID: item.CallID, Content: content})
		return nil
	case passedOver[item.Type]:
		return nil
	}
	return badRequest(fmt.Sprintf("input[%d]: type %q is not supported by %s", i, item.Type, protocol.OpenAIChat))
}

// assistant returns the last message if the model said it, or a new one.
func (w *messagesWriter) assistant() *chatMessage {
	if n := len(w.messages); n == 0 || w.messages[n-1].Role != "assistant" {
		w.add(chatMessage{Role: "assistant"})
	}
	return &w.messages[len(w.messages)-1]
}

func (w *messagesWriter) message(i int, item *responsesItem) error {
	content, err := chatContent(i, item.Content)
	if err != nil {
		return err
	}
	switch item.Role {
	case "user":
		w.add(chatMessage{Role: "user", Content: content})
	case "system", "developer":
		// Many providers know the first word alone.
		w.add(chatMessage{Role: "system", Content: content})
	case "assistant":
		// What is said after a call is still of the same message, for the answers to a
		// call have to follow it.
		if n := len(w.messages); n > 0 && len(w.messages[n-1].ToolCalls) > 0 && w.messages[n-1].Content == nil {
			w.messages[n-1].Content = content
			return nil
		}
		w.add(chatMessage{Role: "assistant", Content: content})
	default:
		return badRequest(fmt.Sprintf("input[%d]: role %q is not supported by %s", i, item.Role, protocol.OpenAIChat))
	}
	return nil
}

// chatContent converts what item i says: text alone is one string, since that is what every
// provider takes from an assistant and a tool.
func chatContent(i int, content jsontext.Value) (jsontext.Value, error) {
	switch content.Kind() {
	case '"':
		return content, nil
	case '[':
	case 0, 'n':
		return encode(""), nil
	default:
		return nil, badRequest(fmt.Sprintf("input[%d]: content is neither a string nor a list of parts", i))
	}
	var list []responsesPart
	if json.Unmarshal(content, &list, jsontext.AllowDuplicateNames(true)) != nil {
		return nil, badRequest(fmt.Sprintf("input[%d]: content is neither a string nor a list of parts", i))
	}
	parts := make([]chatPart, len(list))
	plainText := true
	for n, p := range list {
		part, why := chatPartOf(p)
		if why != "" {
			return nil, badRequest(fmt.Sprintf("input[%d]: content[%d]: %s", i, n, why))
		}
		parts[n] = part
		plainText = plainText && part.Type == "text"
	}
	if plainText {
		return encode(texts(parts)), nil
	}
	return encode(parts), nil
}

// chatPartOf converts a part, or says why that cannot be.
func chatPartOf(p responsesPart) (out chatPart, why string) {
	switch p.Type {
	case "input_text", "output_text", "text":
		return chatPart{Type: "text", Text: p.Text}, ""
	case "refusal":
		return chatPart{Type: "text", Text: p.Refusal}, ""
	case "input_image":
		if p.ImageURL == "" {
			return out, "an image has to be given by its address, its id is another provider's"
		}
		return chatPart{Type: "image_url", ImageURL: &imageURL{p.ImageURL, p.Detail}}, ""
	case "input_file":
		if p.FileData == "" && p.FileID == "" {
			return out, noData
		}
		return chatPart{Type: "file", File: &chatFile{p.FileData, p.FileID, p.Filename}}, ""
	case "input_audio":
		if p.InputAudio != nil {
			return chatPart{Type: "input_audio", InputAudio: p.InputAudio}, ""
		}
	}
	return out, fmt.Sprintf("type %q is not supported by %s", p.Type, protocol.OpenAIChat)
}
