package convert

import (
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/gosix/gosix/pkg/drivers/sse"
)

// The shapes of openai-chat, as far as conversions read or write them. Raw values are what
// passes as it stands. Members that are absent stay absent; omitzero and not omitempty, for an
// empty text is not an absent one.

type chatRequest struct {
	Model               string          `json:"model,omitzero"`
	Messages            []chatMessage   `json:"messages"`
	Tools               []chatTool      `json:"tools,omitzero"`
	ToolChoice          jsontext.Value  `json:"tool_choice,omitzero"` // a word, or an object that names a function
	ParallelToolCalls   *bool           `json:"parallel_tool_calls,omitzero"`
	MaxTokens           jsontext.Value  `json:"max_tokens,omitzero"`
	MaxCompletionTokens jsontext.Value  `json:"max_completion_tokens,omitzero"`
	Temperature         jsontext.Value  `json:"temperature,omitzero"`
	TopP                jsontext.Value  `json:"top_p,omitzero"`
	Stop                jsontext.Value  `json:"stop,omitzero"`  // a string or a list of them
	TopK                jsontext.Value  `json:"top_k,omitzero"` // not OpenAI's, but widely sent
	N                   jsontext.Value  `json:"n,omitzero"`
	Seed                jsontext.Value  `json:"seed,omitzero"`
	PresencePenalty     jsontext.Value  `json:"presence_penalty,omitzero"`
	FrequencyPenalty    jsontext.Value  `json:"frequency_penalty,omitzero"`
	ReasoningEffort     string          `json:"reasoning_effort,omitzero"`
	Verbosity           string          `json:"verbosity,omitzero"`
	ResponseFormat      *responseFormat `json:"response_format,omitzero"`
	ServiceTier         string          `json:"service_tier,omitzero"`
	User                string          `json:"user,omitzero"`
	SafetyIdentifier    string          `json:"safety_identifier,omitzero"`
	Metadata            jsontext.Value  `json:"metadata,omitzero"`
	Store               *bool           `json:"store,omitzero"`
	Stream              bool            `json:"stream,omitzero"`
	StreamOptions       *streamOptions  `json:"stream_options,omitzero"`
}

type streamOptions struct {
	IncludeUsage bool `json:"include_usage,omitzero"`
}

type responseFormat struct {
	Type       string      `json:"type"` // text, json_object, json_schema
	JSONSchema *jsonSchema `json:"json_schema,omitzero"`
}

type jsonSchema struct {
	Name        string         `json:"name"`
	Description string         `json:"description,omitzero"`
	Schema      jsontext.Value `json:"schema,omitzero"`
	Strict      *bool          `json:"strict,omitzero"`
}

type chatTool struct {
	Type     string       `json:"type"` // function
	Function chatFunction `json:"function"`
}

type chatFunction struct {
	Name        string         `json:"name"`
	Description string         `json:"description,omitzero"`
	Parameters  jsontext.Value `json:"parameters,omitzero"`
	Strict      *bool          `json:"strict,omitzero"`
}

// chatMessage is a message of a request. Content is a string, a list of chatPart, or null.
type chatMessage struct {
	Role       string         `json:"role"`
	Name       string         `json:"name,omitzero"`
	Content    jsontext.Value `json:"content,omitzero"`
	Refusal    string         `json:"refusal,omitzero"`
	ToolCalls  []chatToolCall `json:"tool_calls,omitzero"`
	ToolCallID string         `json:"tool_call_id,omitzero"`
	// ReasoningContent and Reasoning are two providers' names for the same.
	ReasoningContent string `json:"reasoning_content,omitzero"`
	Reasoning        string `json:"reasoning,omitzero"`
}

type chatPart struct {
	Type       string     `json:"type"` // text, image_url, input_audio, file, refusal
	Text       string     `json:"text,omitzero"`
	Refusal    string     `json:"refusal,omitzero"`
	ImageURL   *imageURL  `json:"image_url,omitzero"`
	InputAudio *chatAudio `json:"input_audio,omitzero"`
	File       *chatFile  `json:"file,omitzero"`
}

type imageURL struct {
	URL    string `json:"url"` // an address, or a data: URL
	Detail string `json:"detail,omitzero"`
}

type chatAudio struct {
	Data   string `json:"data"`   // base64
	Format string `json:"format"` // wav, mp3
}

type chatFile struct {
	FileData string `json:"file_data,omitzero"` // a data: URL
	FileID   string `json:"file_id,omitzero"`
	Filename string `json:"filename,omitzero"`
}

type chatToolCall struct {
	Index    *int             `json:"index,omitzero"` // in chunks only
	ID       string           `json:"id,omitzero"`
	Type     string           `json:"type,omitzero"` // function
	Function chatFunctionCall `json:"function"`
	// ExtraContent carries what a provider wants back with the call: Google puts its
	// signature of a thought here.
	ExtraContent *extraContent `json:"extra_content,omitzero"`
}

type extraContent struct {
	Google *googleContent `json:"google,omitzero"`
}

type googleContent struct {
	ThoughtSignature string `json:"thought_signature,omitzero"` // base64
}

type chatFunctionCall struct {
	Name      string `json:"name,omitzero"`
	Arguments string `json:"arguments"` // JSON text; in chunks a part of it
}

// chatResponse is a whole answer, or a chunk of a stream.
type chatResponse struct {
	ID                string       `json:"id"`
	Object            string       `json:"object"`  // chat.completion, chat.completion.chunk
	Created           int64        `json:"created"` // s since 1970
	Model             string       `json:"model"`
	ServiceTier       string       `json:"service_tier,omitzero"`
	SystemFingerprint string       `json:"system_fingerprint,omitzero"`
	Choices           []chatChoice `json:"choices"`
	Usage             *chatUsage   `json:"usage,omitzero"`
}

type chatChoice struct {
	Index        int         `json:"index"`
	Message      *chatAnswer `json:"message,omitzero"` // of a whole answer
	Delta        *chatAnswer `json:"delta,omitzero"`   // of a chunk
	FinishReason *string     `json:"finish_reason"`    // stop, length, tool_calls, content_filter; null while it goes on
}

type chatAnswer struct {
	Role             string         `json:"role,omitzero"`
	Content          *string        `json:"content,omitzero"`
	Refusal          *string        `json:"refusal,omitzero"`
	ReasoningContent string         `json:"reasoning_content,omitzero"`
	Reasoning        string         `json:"reasoning,omitzero"`
	ToolCalls        []chatToolCall `json:"tool_calls,omitzero"`
}

// chatUsage counts tokens. PromptTokens include those that were cached.
type chatUsage struct {
	PromptTokens            int64              `json:"prompt_tokens"`
	CompletionTokens        int64              `json:"completion_tokens"`
	TotalTokens             int64              `json:"total_tokens"`
	PromptTokensDetails     *promptDetails     `json:"prompt_tokens_details,omitzero"`
	CompletionTokensDetails *completionDetails `json:"completion_tokens_details,omitzero"`
}

type promptDetails struct {
	CachedTokens        int64 `json:"cached_tokens"`
	CacheCreationTokens int64 `json:"cache_creation_tokens,omitzero"`
}

type completionDetails struct {
	ReasoningTokens int64 `json:"reasoning_tokens"`
}

// chatError is how openai-chat reports a failure, in a body and in a stream.
type chatError struct {
	Error chatErrorBody `json:"error"`
}

type chatErrorBody struct {
	Message string         `json:"message"`
	Type    string         `json:"type"`
	Param   *string        `json:"param"`
	Code    jsontext.Value `json:"code"`
}

// encode writes a value of ours, which cannot fail but for raw values that are no JSON: those
// came through a reader that would have said so. What they say twice is said twice.
func encode(v any) []byte {
	p, err := json.Marshal(v, json.Deterministic(true), jsontext.AllowDuplicateNames(true))
	if err != nil {
		panic("convert: " + err.Error())
	}
	return p
}

// appendChunk appends an event of a chat stream.
func appendChunk(dst []byte, v any) []byte { return sse.AppendEvent(dst, encode(v)) }

// chatDone is the event after which a chat stream says nothing.
const chatDone = "data: [DONE]\n\n"
