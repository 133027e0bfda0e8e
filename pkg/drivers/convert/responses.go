package convert

import (
	"github.com/go-json-experiment/json/jsontext"
)

// The shapes of openai-responses, as far as conversions read or write them.

// responsesFunction is a tool: unlike in openai-chat it is flat.
type responsesFunction struct {
	Type        string         `json:"type"` // function
	Name        string         `json:"name"`
	Description string         `json:"description,omitzero"`
	Parameters  jsontext.Value `json:"parameters,omitzero"`
	Strict      *bool          `json:"strict,omitzero"` // missing: true, unlike in openai-chat
}

type responsesText struct {
	Format    *responsesFormat `json:"format,omitzero"`
	Verbosity string           `json:"verbosity,omitzero"`
}

type responsesFormat struct {
	Type        string         `json:"type"` // text, json_object, json_schema
	Name        string         `json:"name,omitzero"`
	Description string         `json:"description,omitzero"`
	Schema      jsontext.Value `json:"schema,omitzero"`
	Strict      *bool          `json:"strict,omitzero"`
}

type responsesReasoning struct {
	Effort  string `json:"effort,omitzero"`
	Summary string `json:"summary,omitzero"`
}

// responsesPart is a part of a message, of either side.
type responsesPart struct {
	Type       string     `json:"type"` // input_text, output_text, refusal, input_image, input_file, input_audio
	Text       string     `json:"text,omitzero"`
	Refusal    string     `json:"refusal,omitzero"`
	ImageURL   string     `json:"image_url,omitzero"`
	Detail     string     `json:"detail,omitzero"`
	FileData   string     `json:"file_data,omitzero"`
	FileID     string     `json:"file_id,omitzero"`
	FileURL    string     `json:"file_url,omitzero"`
	Filename   string     `json:"filename,omitzero"`
	InputAudio *chatAudio `json:"input_audio,omitzero"`
}

// responsesUsage counts tokens; what is cached is among the input, what is reasoned among the
// output.
type responsesUsage struct {
	InputTokens        int64 `json:"input_tokens"`
	InputTokensDetails struct {
		CachedTokens int64 `json:"cached_tokens"`
	} `json:"input_tokens_details"`
	OutputTokens        int64 `json:"output_tokens"`
	OutputTokensDetails struct {
		ReasoningTokens int64 `json:"reasoning_tokens"`
	} `json:"output_tokens_details"`
	TotalTokens int64 `json:"total_tokens"`
}
