package protocol

import (
	"strings"
	"testing"

	"github.com/gosix/gosix/pkg/jsonedit"
)

func TestPrompt(t *testing.T) {
	long := strings.Repeat("é", 10)
	tests := map[string]struct {
		id   ID
		body string
		want string
	}{
		"the last of a user":                 {OpenAIChat, `{"messages":[{"role":"user","content":"a"},{"role":"user","content":"b"},{"role":"assistant","content":"c"}]}`, "b"},
		"a user who says nothing is skipped": {OpenAIChat, `{"messages":[{"role":"user","content":"a"},{"role":"user","content":""}]}`, "a"},
		"parts of text are joined":           {OpenAIChat, `{"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url","text":"no"},{"type":"text","text":"b\n"}]}]}`, "a b\n"},
		"nobody is a user":                   {OpenAIChat, `{"messages":[{"role":"system","content":"a"}]}`, ""},
		"messages that are none":             {OpenAIChat, `{"messages":[1,"x",null,{"role":1,"content":{}},{"content":"x"}]}`, ""},
		"messages that are an object":        {OpenAIChat, `{"messages":{"role":"user","content":"a"}}`, ""},
		"anthropic":                          {AnthropicMessages, `{"system":"s","messages":[{"role":"user","content":[{"type":"tool_result"},{"type":"text","text":"a"}]}]}`, "a"},
		"bedrock has parts without a type":   {BedrockConverse, `{"messages":[{"role":"user","content":[{"text":"a"},{"image":{}}]}]}`, "a"},
		"responses: a text":                  {OpenAIResponses, `{"input":"a"}`, "a"},
		"responses: a list":                  {OpenAIResponses, `{"input":["x",{"role":"assistant","content":"y"},{"content":[{"type":"input_text","text":"z"}]},{"role":"assistant","content":"y"}]}`, "z"},
		"embeddings":                         {OpenAIEmbeddings, `{"input":"a"}`, "a"},
		"embeddings of a list":               {OpenAIEmbeddings, `{"input":["a"]}`, ""},
		"what is passed through":             {Passthrough, `{"input":"a","messages":[{"role":"user","content":"a"}]}`, ""},
		"no input at all":                    {OpenAIResponses, `{"x":1}`, ""},
		"a long text is cut":                 {OpenAIResponses, `{"input":"` + long + `"}`, strings.Repeat("é", 3)},
		"a long text of a message is cut":    {OpenAIChat, `{"messages":[{"role":"user","content":"1234567890"}]}`, "1234567"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			doc, err := jsonedit.Index([]byte(tt.body), jsonedit.Options{MaxDepth: 64})
			if err != nil {
				t.Fatal(err)
			}
			if got := Prompt(tt.id, doc, 7); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func FuzzPrompt(f *testing.F) {
	for _, seed := range []string{
		`{"messages":[{"role":"user","content":[{"type":"text","text":"\ud83d\ude00"}]}]}`, `{"input":["a",{"content":"b"}]}`, `{"messages":{}}`,
	} {
		f.Add(seed, 5)
	}
	f.Fuzz(func(t *testing.T, body string, limit int) {
		doc, err := jsonedit.Index([]byte(body), jsonedit.Options{MaxDepth: 64})
		if err != nil || limit < 0 {
			return
		}
		for _, id := range []ID{OpenAIChat, OpenAIResponses, AnthropicMessages, BedrockConverse, OpenAIEmbeddings} {
			if got := Prompt(id, doc, limit); len(got) > limit {
				t.Errorf("%s: got %d bytes, want at most %d", id, len(got), limit)
			}
		}
	})
}
