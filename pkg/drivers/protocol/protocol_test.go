package protocol

import (
	"testing"

	"github.com/gosix/gosix/pkg/jsonedit"
)

func TestDetect(t *testing.T) {
	tests := map[string]struct {
		path, body string
		want       ID
		stream     bool
	}{
		"messages are a chat":                            {"/anything", `{"messages":[]}`, OpenAIChat, false},
		"messages may be an object":                      {"/anything", `{"messages":{},"stream":true}`, OpenAIChat, true},
		"stream must be exactly true":                    {"/x", `{"messages":[],"stream":"true"}`, OpenAIChat, false},
		"a converse path with messages is bedrock":       {"/model/m/converse", `{"messages":[]}`, BedrockConverse, false},
		"a converse path without messages is not":        {"/model/m/converse", `{"a":1}`, Passthrough, false},
		"a messages path is anthropic whatever the body": {"/v1/messages", `{}`, AnthropicMessages, false},
		"a responses path with input":                    {"/v1/responses", `{"input":"x","stream":true}`, OpenAIResponses, true},
		"input elsewhere is embeddings, never a stream":  {"/v1/embeddings", `{"input":"x","stream":true}`, OpenAIEmbeddings, false},
		"messages of another kind are passed through":    {"/x", `{"messages":"hi"}`, Passthrough, false},
		"a list with something in it is passed through":  {"/x", `[1]`, Passthrough, false},
		"an empty object speaks nothing":                 {"/x", `{}`, "", false},
		"an empty list speaks nothing":                   {"/x", `[]`, "", false},
		"a string speaks nothing":                        {"/x", `"hi"`, "", false},
		"null speaks nothing":                            {"/x", `null`, "", false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			doc, err := jsonedit.Index([]byte(tt.body), jsonedit.Options{})
			if err != nil {
				t.Fatal(err)
			}
			got, ok := Detect(tt.path, doc)
			if got != tt.want || ok != (tt.want != "") {
				t.Errorf("got %q, %v, want %q", got, ok, tt.want)
			}
			if s := Streams(got, doc); s != tt.stream {
				t.Errorf("stream %v, want %v", s, tt.stream)
			}
		})
	}
}

func FuzzDetectSpeaksOfWhatIsThere(f *testing.F) {
	f.Add("/v1/chat/completions", `{"messages":[],"stream":true}`)
	f.Add("/v1/responses", `{"input":"x"}`)
	f.Add("/model/m/converse", `{"messages":{}}`)
	f.Add("/", `[1]`)
	f.Add("/", `"x"`)
	f.Fuzz(func(t *testing.T, path, body string) {
		doc, err := jsonedit.Index([]byte(body), jsonedit.Options{})
		if err != nil {
			return
		}
		id, ok := Detect(path, doc)
		switch {
		case ok != (id != ""):
			t.Fatalf("got %q, %v", id, ok)
		case id != AnthropicMessages && ok && doc.Len() == 0:
			t.Fatalf("got %q for an empty body", id)
		case id == OpenAIEmbeddings && Streams(id, doc):
			t.Fatal("got a stream of embeddings")
		}
	})
}
