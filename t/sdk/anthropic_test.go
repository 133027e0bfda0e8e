package sdk

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/anthropics/anthropic-sdk-go/v2"
	"github.com/anthropics/anthropic-sdk-go/v2/option"
)

func anthropicClient(host string) anthropic.Client {
	return anthropic.NewClient(option.WithBaseURL(base()), option.WithAPIKey("client"),
		option.WithHTTPClient(client(host)), option.WithMaxRetries(0))
}

func message(text string) anthropic.MessageNewParams {
	return anthropic.MessageNewParams{
		Model: "m", MaxTokens: 1024, Messages: []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock(text))},
	}
}

// messengers are reached by whoever speaks anthropic-messages.
var messengers = append([]provider{
	{"anthropic", `"provider": "anthropic", "auth": {"header": {"x-api-key": "secret"}}, "override": {"endpoint": "%s"}`},
}, chatProviders[0], chatProviders[1], chatProviders[4], chatProviders[5])

// gather reads a stream to its end.
func gather(c anthropic.Client, p anthropic.MessageNewParams) (m anthropic.Message, last string, err error) {
	s := c.Messages.NewStreaming(context.Background(), p)
	defer func() { _ = s.Close() }()
	for s.Next() {
		last = s.Current().Type
		if err := m.Accumulate(s.Current()); err != nil {
			return m, last, err
		}
	}
	return m, last, s.Err()
}

// textOf is what a message says.
func textOf(m anthropic.Message) (text string) {
	for _, block := range m.Content {
		if block.Type == "text" {
			text += block.Text
		}
	}
	return strings.TrimSpace(text)
}

func TestAnAnthropicClientTalksToEveryChatProvider(t *testing.T) {
	for _, p := range messengers {
		t.Run(p.name, func(t *testing.T) {
			c := anthropicClient(route(t, p, ""))
			for _, text := range []string{"hello", "日本語 🦉 \\ end"} {
				want := "I am owl, and I hear: " + text
				words := int64(len(strings.Fields(want)))
				got, err := c.Messages.New(t.Context(), message(text))
				if err != nil {
					t.Fatal(err)
				}
				m, last, err := gather(c, message(text))
				if err != nil || last != "message_stop" {
					t.Fatalf("the stream ends with %s (%v)", last, err)
				}
				for _, m := range []anthropic.Message{*got, m} {
					if textOf(m) != want || m.StopReason != "end_turn" || m.Role != "assistant" {
						t.Errorf("got %q (%s), want %q", textOf(m), m.StopReason, want)
					}
					if u := m.Usage; u.InputTokens != 4 || u.CacheReadInputTokens != 3 || u.OutputTokens != words {
						t.Errorf("the usage is %s: %d in, %d cached, %d out", u.RawJSON(), u.InputTokens, u.CacheReadInputTokens, u.OutputTokens)
					}
				}
			}
		})
	}
}

func TestAnAnthropicClientUsesToolsOfEveryChatProvider(t *testing.T) {
	for _, p := range messengers {
		t.Run(p.name, func(t *testing.T) {
			c := anthropicClient(route(t, p, "tool"))
			params := message("the sky")
			params.Tools = []anthropic.ToolUnionParam{anthropic.ToolUnionParamOfTool(anthropic.ToolInputSchemaParam{
				Properties: map[string]any{"text": map[string]any{"type": "string"}}, Required: []string{"text"},
			}, "look")}
			got, err := c.Messages.New(t.Context(), params)
			if err != nil {
				t.Fatal(err)
			}
			streamed, _, err := gather(c, params)
			if err != nil {
				t.Fatal(err)
			}
			id := ""
			for _, m := range []anthropic.Message{*got, streamed} {
				if m.StopReason != "tool_use" || len(m.Content) == 0 {
					t.Fatalf("got %s", m.RawJSON())
				}
				call := m.Content[len(m.Content)-1]
				var in struct{ Text string }
				if err := json.Unmarshal(call.Input, &in); err != nil || call.Type != "tool_use" || call.Name != "look" || in.Text != "the sky" || call.ID == "" {
					t.Errorf("the call is %+v (%v)", call, err)
				}
				id = call.ID
			}
			params.Messages = append(params.Messages, streamed.ToParam(), anthropic.NewUserMessage(anthropic.NewToolResultBlock(id, "it is blue", false)))
			end, err := c.Messages.New(t.Context(), params)
			if err != nil {
				t.Fatal(err)
			}
			if text := textOf(*end); text != "I am owl, and I hear: it is blue" {
				t.Errorf("after the call it says %q", text)
			}
		})
	}
}

func TestAnAnthropicClientSeesTheClassOfAnError(t *testing.T) {
	for _, p := range messengers {
		for status, kind := range map[int]string{
			400: "invalid_request_error", 401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error", 500: "api_error",
		} {
			t.Run(fmt.Sprint(p.name, " ", status), func(t *testing.T) {
				c := anthropicClient(route(t, p, fmt.Sprintf("status=%d", status)))
				_, err := c.Messages.New(t.Context(), message("hello"))
				var e *anthropic.Error
				if !errors.As(err, &e) || e.StatusCode != status || !strings.Contains(e.RawJSON(), "scripted") || !strings.Contains(e.RawJSON(), kind) {
					t.Errorf("got %v", err)
				}
			})
		}
	}
}

func TestAnAnthropicClientSeesThatAStreamWasCut(t *testing.T) {
	for _, p := range messengers {
		for _, script := range []string{"cut=4&words=9", "error=5&words=9"} {
			t.Run(p.name+" "+script, func(t *testing.T) {
				m, last, err := gather(anthropicClient(route(t, p, script)), message("hello"))
				if err == nil {
					t.Errorf("it takes %q for an answer; the last event is %s", textOf(m), last)
				}
			})
		}
	}
}

func TestAnAnthropicClientSeesThoughts(t *testing.T) {
	for _, p := range messengers {
		t.Run(p.name, func(t *testing.T) {
			c := anthropicClient(route(t, p, "think"))
			got, err := c.Messages.New(t.Context(), message("hello"))
			if err != nil {
				t.Fatal(err)
			}
			m, _, err := gather(c, message("hello"))
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range []anthropic.Message{*got, m} {
				if len(m.Content) != 2 || m.Content[0].Type != "thinking" || m.Content[0].Thinking != "Let me think." {
					t.Errorf("got %s", m.RawJSON())
				}
			}
		})
	}
}

func TestAnAnthropicClientLivesWithoutUsage(t *testing.T) {
	c := anthropicClient(route(t, chatProviders[0], "no_usage"))
	m, last, err := gather(c, message("hello"))
	if err != nil || last != "message_stop" || textOf(m) != "I am owl, and I hear: hello" || m.StopReason != "end_turn" {
		t.Fatalf("got %q (%s), the stream ends with %s (%v)", textOf(m), m.StopReason, last, err)
	}
	if m.Usage.OutputTokens != 0 {
		t.Errorf("the usage is %s, of which nobody said anything", m.Usage.RawJSON())
	}
}
