// Package protocol names the protocols in which clients talk to language models, and
// tells from a request which one it speaks. It does not know providers.
package protocol

import (
	"strings"

	"github.com/gosix/gosix/pkg/jsonedit"
)

// ID names a protocol, as configurations and messages do.
type ID string

// The protocols (spec/06 §A4).
const (
	BedrockConverse   ID = "bedrock-converse"
	AnthropicMessages ID = "anthropic-messages"
	OpenAIResponses   ID = "openai-responses"
	OpenAIChat        ID = "openai-chat"
	OpenAIEmbeddings  ID = "openai-embeddings"
	Passthrough       ID = "passthrough"

	// What only providers speak: requests in these are converted to.
	VertexPredict  ID = "vertex-predict"
	GeminiGenerate ID = "gemini-generate"
)

// Detect returns the protocol of a request, by its path and body; false if it speaks none.
// The first that fits wins.
func Detect(path string, body *jsonedit.Doc) (ID, bool) {
	messages := container(body, "messages")
	switch {
	case strings.HasSuffix(path, "/converse") && messages:
		return BedrockConverse, true
	case strings.HasSuffix(path, "/v1/messages"):
		return AnthropicMessages, true
	case strings.HasSuffix(path, "/v1/responses") && body.Has("input"):
		return OpenAIResponses, true
	case messages:
		return OpenAIChat, true
	case body.Has("input"):
		return OpenAIEmbeddings, true
	case (body.Kind() == jsonedit.Object || body.Kind() == jsonedit.Array) && body.Len() > 0:
		return Passthrough, true
	}
	return "", false
}

func container(body *jsonedit.Doc, name string) bool {
	_, kind, ok := body.Get(name)
	return ok && (kind == jsonedit.Array || kind == jsonedit.Object)
}

// Streams reports whether a request asks for a stream: embeddings never do.
func Streams(id ID, body *jsonedit.Doc) bool {
	if id == OpenAIEmbeddings {
		return false
	}
	raw, kind, ok := body.Get("stream")
	return ok && kind == jsonedit.Bool && raw[0] == 't'
}
