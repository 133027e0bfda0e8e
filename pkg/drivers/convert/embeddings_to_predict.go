package convert

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/gosix/gosix/pkg/drivers/protocol"
	"github.com/gosix/gosix/pkg/jsonedit"
)

// embeddingsToPredict lets clients of openai-embeddings reach the models of Vertex AI
// (spec/06 §A7). What the client's library does on its own is done here too: dimensions, and
// values as base64 of their bytes.
var embeddingsToPredict = &Conversion{
	From:    protocol.OpenAIEmbeddings,
	To:      protocol.VertexPredict,
	Request: embeddingsToPredictRequest,
}

type embeddingsRequest struct {
	Model          string         `json:"model"`
	Input          jsontext.Value `json:"input"`
	EncodingFormat string         `json:"encoding_format"` // float, base64
	Dimensions     jsontext.Value `json:"dimensions"`
}

type predictRequest struct {
	Instances  []predictInstance  `json:"instances"`
	Parameters *predictParameters `json:"parameters,omitzero"`
}

type predictInstance struct {
	Content string `json:"content"`
}

type predictParameters struct {
	OutputDimensionality jsontext.Value `json:"outputDimensionality"`
}

func embeddingsToPredictRequest(body *jsonedit.Doc) (*Converted, error) {
	var r embeddingsRequest
	if err := readRequest(body, &r); err != nil {
		return nil, err
	}
	texts, err := embeddingsInput(r.Input)
	if err != nil {
		return nil, err
	}
	out := predictRequest{Instances: make([]predictInstance, len(texts))}
	for i, text := range texts {
		out.Instances[i].Content = text
	}
	if d := said(r.Dimensions); d != nil {
		out.Parameters = &predictParameters{d}
	}
	if r.Model == "" {
		r.Model = "unknown"
	}
	return &Converted{Body: encode(out), Answer: &embeddingsOfPredict{
		model: r.Model, base64: r.EncodingFormat == "base64",
	}}, nil
}

// embeddingsInput lists the texts of an input.
func embeddingsInput(input jsontext.Value) ([]string, error) {
	switch input.Kind() {
	case '"':
		text, err := jsonedit.Unquote(input)
		return []string{text}, err
	case '[':
		var list []jsontext.Value
		if err := json.Unmarshal(input, &list, jsontext.AllowDuplicateNames(true)); err != nil {
			return nil, badRequest(err.Error())
		}
		var texts []string
		for i, v := range list {
			text, ok := embeddingsText(v)
			if !ok {
				return nil, badRequest(fmt.Sprintf("unsupported input type at index %d", i+1))
			}
			texts = append(texts, text)
		}
		return texts, nil
	case 0, 'n', 'f':
		return nil, badRequest("`input` is required for embeddings")
	}
	return nil, badRequest("`input` must be string or array")
}

// embeddingsText returns one text: as it is, or the list of its pieces or tokens with a space
// between.
func embeddingsText(v jsontext.Value) (string, bool) {
	switch v.Kind() {
	case '"':
		text, err := jsonedit.Unquote(v)
		return text, err == nil
	case '[':
		var pieces []jsontext.Value
		if json.Unmarshal(v, &pieces, jsontext.AllowDuplicateNames(true)) != nil {
			return "", false
		}
		var texts []string
		for _, p := range pieces {
			if k := p.Kind(); k != '"' && k != '0' {
				return "", false
			}
			texts = append(texts, plain(p))
		}
		return strings.Join(texts, " "), true
	}
	return "", false
}

// embeddingsOfPredict converts an answer of vertex-predict. There are no streams.
type embeddingsOfPredict struct {
	model  string
	base64 bool
}

type predictResponse struct {
	Predictions []struct {
		Embeddings struct {
			Values     jsontext.Value `json:"values"`
			Statistics struct {
				TokenCount float64 `json:"token_count"` // a whole number
			} `json:"statistics"`
		} `json:"embeddings"`
	} `json:"predictions"`
}

type embeddingsResponse struct {
	Object string           `json:"object"`
	Data   []embeddingsItem `json:"data"`
	Model  string           `json:"model"`
	Usage  embeddingsUsage  `json:"usage"`
}

type embeddingsItem struct {
	Object    string         `json:"object"`
	Index     int            `json:"index"`
	Embedding jsontext.Value `json:"embedding"` // numbers, or base64 of them as float32 little-endian
}

type embeddingsUsage struct {
	PromptTokens int64 `json:"prompt_tokens"`
	TotalTokens  int64 `json:"total_tokens"`
}

func (a *embeddingsOfPredict) Whole(body []byte) ([]byte, error) {
	if jsontext.Value(body).Kind() != '{' {
		return nil, badAnswer("empty vertex response")
	}
	var r predictResponse
	if !readAnswer(body, &r) || r.Predictions == nil {
		return nil, badAnswer("vertex response missing predictions")
	}
	out := embeddingsResponse{Object: "list", Model: a.model}
	var tokens float64
	for i, p := range r.Predictions {
		values, ok := a.values(p.Embeddings.Values)
		if !ok {
			return nil, badAnswer(fmt.Sprintf("invalid embedding at index %d", i+1))
		}
		tokens += p.Embeddings.Statistics.TokenCount
		out.Data = append(out.Data, embeddingsItem{Object: "embedding", Index: i, Embedding: values})
	}
	out.Usage = embeddingsUsage{PromptTokens: int64(tokens), TotalTokens: int64(tokens)}
	return encode(out), nil
}

// values returns the numbers of an embedding as the client wants them; false if they are none.
func (a *embeddingsOfPredict) values(raw jsontext.Value) (jsontext.Value, bool) {
	if raw.Kind() != '[' {
		return nil, false
	}
	var numbers []float64
	if json.Unmarshal(raw, &numbers) != nil {
		return nil, false
	}
	if !a.base64 {
		return raw, true
	}
	p := make([]byte, 0, 4*len(numbers))
	for _, f := range numbers {
		p = binary.LittleEndian.AppendUint32(p, math.Float32bits(float32(f)))
	}
	return encode(base64.StdEncoding.EncodeToString(p)), true
}

func (a *embeddingsOfPredict) Error(status int, body []byte) []byte {
	return encode(chatError{googleError(status, body)})
}

func (a *embeddingsOfPredict) Event(dst []byte, _ string, _ []byte) []byte { return dst }
func (a *embeddingsOfPredict) Close(dst []byte) []byte                     { return dst }
