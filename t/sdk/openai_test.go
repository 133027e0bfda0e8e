package sdk

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/responses"
	"github.com/openai/openai-go/v3/shared"
)

func openAI(host string) openai.Client {
	return openai.NewClient(option.WithBaseURL(base()+"/v1"), option.WithAPIKey("client"),
		option.WithHTTPClient(client(host)), option.WithMaxRetries(0))
}

func ask(text string) openai.ChatCompletionNewParams {
	return openai.ChatCompletionNewParams{Model: "m", Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage(text)}}
}

var tool = openai.ChatCompletionFunctionTool(shared.FunctionDefinitionParam{
	Name: "look", Description: openai.String("looks at a text"),
	Parameters: shared.FunctionParameters{
		"type": "object", "properties": map[string]any{"text": map[string]any{"type": "string"}}, "required": []string{"text"},
	},
})

// collect reads a stream to its end.
func collect(c openai.Client, p openai.ChatCompletionNewParams) (*openai.ChatCompletionAccumulator, error) {
	p.StreamOptions.IncludeUsage = openai.Bool(true)
	s := c.Chat.Completions.NewStreaming(context.Background(), p)
	defer func() { _ = s.Close() }()
	var all openai.ChatCompletionAccumulator
	for s.Next() {
		if !all.AddChunk(s.Current()) {
			return &all, errors.New("a chunk does not go with those before it")
		}
	}
	return &all, s.Err()
}

func TestAnOpenAIClientTalksToEveryChatProvider(t *testing.T) {
	const odd = "日本語 🦉 \u202eabc \\ \" \n end"
	for _, p := range chatProviders {
		t.Run(p.name, func(t *testing.T) {
			c := openAI(route(t, p, ""))
			for _, text := range []string{"hello", odd} {
				want := "I am owl, and I hear: " + strings.Join(strings.Fields(text), " ")
				got, err := c.Chat.Completions.New(t.Context(), ask(text))
				if err != nil {
					t.Fatal(err)
				}
				words := int64(len(strings.Fields(want)))
				if m := got.Choices[0]; m.Message.Content != want || m.FinishReason != "stop" {
					t.Errorf("got %q (%s), want %q", m.Message.Content, m.FinishReason, want)
				}
				if u := got.Usage; u.PromptTokens != 7 || u.CompletionTokens != words || u.TotalTokens != 7+words || u.PromptTokensDetails.CachedTokens != 3 {
					t.Errorf("the usage is %s", u.RawJSON())
				}
				all, err := collect(c, ask(text))
				if err != nil {
					t.Fatal(err)
				}
				if m := all.Choices[0]; strings.TrimSpace(m.Message.Content) != want || m.FinishReason != "stop" {
					t.Errorf("the stream says %q (%s), want %q", m.Message.Content, m.FinishReason, want)
				}
				if u := all.Usage; u.PromptTokens != 7 || u.CompletionTokens != words || u.TotalTokens != 7+words {
					t.Errorf("the usage of the stream is %s", u.RawJSON())
				}
			}
		})
	}
}

func TestAnOpenAIClientUsesToolsOfEveryChatProvider(t *testing.T) {
	for _, p := range chatProviders {
		t.Run(p.name, func(t *testing.T) {
			c := openAI(route(t, p, "tool"))
			params := ask("the sky")
			params.Tools = []openai.ChatCompletionToolUnionParam{tool}
			got, err := c.Chat.Completions.New(t.Context(), params)
			if err != nil {
				t.Fatal(err)
			}
			all, err := collect(c, params)
			if err != nil {
				t.Fatal(err)
			}
			for _, choice := range []openai.ChatCompletionChoice{got.Choices[0], all.Choices[0]} {
				if choice.FinishReason != "tool_calls" || len(choice.Message.ToolCalls) != 1 {
					t.Fatalf("got %s with %d calls", choice.FinishReason, len(choice.Message.ToolCalls))
				}
				call := choice.Message.ToolCalls[0]
				var in struct{ Text string }
				if err := json.Unmarshal([]byte(call.Function.Arguments), &in); err != nil || call.Function.Name != "look" || in.Text != "the sky" || call.ID == "" {
					t.Errorf("the call is %+v (%v)", call.Function, err)
				}
			}
			params.Messages = append(params.Messages, got.Choices[0].Message.ToParam(), openai.ToolMessage("it is blue", got.Choices[0].Message.ToolCalls[0].ID))
			end, err := c.Chat.Completions.New(t.Context(), params)
			if err != nil {
				t.Fatal(err)
			}
			if text := end.Choices[0].Message.Content; text != "I am owl, and I hear: it is blue" {
				t.Errorf("after the call it says %q", text)
			}
		})
	}
}

func TestAnOpenAIClientSeesTheClassOfAnError(t *testing.T) {
	for _, p := range chatProviders {
		for _, status := range []int{400, 401, 403, 404, 429, 500, 503} {
			t.Run(fmt.Sprint(p.name, " ", status), func(t *testing.T) {
				c := openAI(route(t, p, fmt.Sprintf("status=%d&retry_after=9", status)))
				_, err := c.Chat.Completions.New(t.Context(), ask("hello"))
				var e *openai.Error
				if !errors.As(err, &e) || e.StatusCode != status || !strings.Contains(e.Message, "scripted") {
					t.Fatalf("got %v", err)
				}
				if wait := e.Response.Header.Get("Retry-After"); wait != "9" {
					t.Errorf("it may come back in %q", wait)
				}
			})
		}
	}
}

func TestAnOpenAIClientSeesThatAStreamWasCut(t *testing.T) {
	for _, p := range chatProviders {
		for _, script := range []string{"cut=3&words=9", "error=4&words=9"} {
			t.Run(p.name+" "+script, func(t *testing.T) {
				all, err := collect(openAI(route(t, p, script)), ask("hello"))
				if err == nil {
					t.Errorf("it takes %+v for an answer", all.Choices)
				}
			})
		}
	}
}

func TestAnOpenAIClientThatLeavesEndsTheCall(t *testing.T) {
	for _, p := range chatProviders {
		t.Run(p.name, func(t *testing.T) {
			c := openAI(route(t, p, "stall=7&words=9"))
			ctx, leave := context.WithCancel(t.Context())
			s := c.Chat.Completions.NewStreaming(ctx, ask("hello"))
			drain()
			leave()
			_ = s.Close()
			<-gateway.llm.Gone()
		})
	}
}

// drain forgets clients that left before.
func drain() {
	for {
		select {
		case <-gateway.llm.Gone():
		default:
			return
		}
	}
}

func TestFiftyStreamsRunAtOnce(t *testing.T) {
	for _, p := range chatProviders {
		t.Run(p.name, func(t *testing.T) {
			c := openAI(route(t, p, "words=40&gap_ms=2"))
			var wait sync.WaitGroup
			for n := range 50 {
				wait.Go(func() {
					all, err := collect(c, ask(fmt.Sprint("number ", n)))
					if err != nil {
						t.Error(err)
						return
					}
					text := all.Choices[0].Message.Content
					if !strings.HasPrefix(text, fmt.Sprintf("I am owl, and I hear: number %d so", n)) || len(strings.Fields(text)) != 40 {
						t.Errorf("stream %d says %q", n, text)
					}
				})
			}
			wait.Wait()
		})
	}
}

func TestAPromptOfFiveMegabytesArrives(t *testing.T) {
	text := strings.Repeat("word ", 1<<20)
	for _, p := range chatProviders {
		t.Run(p.name, func(t *testing.T) {
			gateway.llm.Reset()
			c := openAI(route(t, p, "words=6"))
			got, err := c.Chat.Completions.New(t.Context(), ask(text))
			if err != nil || got.Choices[0].Message.Content != "I am owl, and I hear:" {
				t.Fatalf("got %v (%v)", got, err)
			}
			if in := gateway.llm.Received(); len(in) != 1 || len(in[0].Body) < len(text) {
				t.Errorf("the provider got %d requests", len(in))
			}
		})
	}
}

func TestAnOpenAIClientGetsEmbeddings(t *testing.T) {
	for _, p := range embedders {
		t.Run(p.name, func(t *testing.T) {
			c := openAI(route(t, p, ""))
			got, err := c.Embeddings.New(t.Context(), openai.EmbeddingNewParams{
				Model: "m", Input: openai.EmbeddingNewParamsInputUnion{OfArrayOfStrings: []string{"a", "b"}},
				EncodingFormat: openai.EmbeddingNewParamsEncodingFormatFloat,
			})
			if err != nil {
				t.Fatal(err)
			}
			if len(got.Data) != 2 || got.Data[1].Index != 1 || got.Data[1].Embedding[0] != 2 || got.Usage.PromptTokens == 0 {
				t.Errorf("got %s", got.RawJSON())
			}
		})
	}
}

// responders are reached by whoever speaks openai-responses.
var responders = []provider{
	{"openai", `"provider": "openai", ` + bearer + `, "override": {"endpoint": "%s"}`},
	{"deepseek, which has only chats", `"provider": "deepseek", ` + bearer + `, "override": {"endpoint": "%s"}`},
	chatProviders[3], chatProviders[4], chatProviders[5],
}

func TestAClientOfResponsesTalksToEveryProvider(t *testing.T) {
	for _, p := range responders {
		t.Run(p.name, func(t *testing.T) {
			c := openAI(route(t, p, ""))
			params := responses.ResponseNewParams{Model: "m", Input: responses.ResponseNewParamsInputUnion{OfString: openai.String("hello")}}
			const want = "I am owl, and I hear: hello"
			got, err := c.Responses.New(t.Context(), params)
			if err != nil {
				t.Fatal(err)
			}
			if got.OutputText() != want || got.Status != "completed" || got.Usage.InputTokens != 7 || got.Usage.OutputTokens != 7 {
				t.Errorf("got %s", got.RawJSON())
			}
			s := c.Responses.NewStreaming(t.Context(), params)
			defer func() { _ = s.Close() }()
			text, last, number := "", "", int64(-1)
			for s.Next() {
				e := s.Current()
				last = e.Type
				if e.Type == "response.output_text.delta" {
					text += e.Delta
				}
				if e.SequenceNumber != number+1 {
					t.Errorf("event %d follows %d", e.SequenceNumber, number)
				}
				number = e.SequenceNumber
			}
			if s.Err() != nil || strings.TrimSpace(text) != want || last != "response.completed" {
				t.Errorf("the stream says %q and ends with %s (%v)", text, last, s.Err())
			}
		})
	}
}

func TestAClientOfResponsesUsesTools(t *testing.T) {
	for _, p := range responders {
		t.Run(p.name, func(t *testing.T) {
			c := openAI(route(t, p, "tool"))
			params := responses.ResponseNewParams{
				Model: "m", Input: responses.ResponseNewParamsInputUnion{OfString: openai.String("the sky")},
				Tools: []responses.ToolUnionParam{{OfFunction: &responses.FunctionToolParam{
					Name: "look", Parameters: map[string]any{"type": "object", "properties": map[string]any{"text": map[string]any{"type": "string"}}},
				}}},
			}
			got, err := c.Responses.New(t.Context(), params)
			if err != nil {
				t.Fatal(err)
			}
			var call responses.ResponseFunctionToolCall
			for _, item := range got.Output {
				if item.Type == "function_call" {
					call = item.AsFunctionCall()
				}
			}
			if call.Name != "look" || !strings.Contains(call.Arguments, "the sky") || call.CallID == "" {
				t.Fatalf("got %s", got.RawJSON())
			}
			params.Input = responses.ResponseNewParamsInputUnion{OfInputItemList: responses.ResponseInputParam{
				responses.ResponseInputItemParamOfMessage("the sky", "user"),
				responses.ResponseInputItemParamOfFunctionCall(call.Arguments, call.CallID, call.Name),
				{OfFunctionCallOutput: &responses.ResponseInputItemFunctionCallOutputParam{
					CallID: openai.String(call.CallID),
					Output: responses.ResponseInputItemFunctionCallOutputOutputUnionParam{OfString: openai.String("it is blue")},
				}},
			}}
			end, err := c.Responses.New(t.Context(), params)
			if err != nil {
				t.Fatal(err)
			}
			if end.OutputText() != "I am owl, and I hear: it is blue" {
				t.Errorf("after the call it says %s", end.RawJSON())
			}
		})
	}
}

func TestAnUnknownRouteIsAnError(t *testing.T) {
	c := openAI("nobody.test")
	_, err := c.Chat.Completions.New(t.Context(), ask("hello"))
	var e *openai.Error
	if !errors.As(err, &e) || e.StatusCode != http.StatusNotFound {
		t.Errorf("got %v", err)
	}
}
