package ledger

import (
	"strings"

	"github.com/gosix/gosix/pkg/drivers/eventstream"
	"github.com/gosix/gosix/pkg/drivers/protocol"
)

// script is an answer as a provider sends it, and what a ledger must have found at its end.
type script struct {
	name string
	id   protocol.ID
	in   string
	want seen
}

// seen is what a ledger found. ends is a word for each of its findings: begun, parsed,
// finished, terminal, tools.
type seen struct {
	usage Usage
	ends  string
	fault string // of Fault.Error
	text  string
}

// sse frames events. Lines that are no JSON and no [DONE] stand as they are.
func sse(lines ...string) string {
	var b strings.Builder
	for _, l := range lines {
		switch {
		case strings.HasPrefix(l, "{") || strings.HasPrefix(l, "["):
			b.WriteString("data: " + l + "\n\n")
		default:
			b.WriteString(l + "\n\n")
		}
	}
	return b.String()
}

// named frames events with their types, which stand in the data too.
func named(events ...string) string {
	var b strings.Builder
	for _, e := range events {
		kind, _, _ := strings.Cut(strings.TrimPrefix(e, `{"type":"`), `"`)
		b.WriteString("event: " + kind + "\ndata: " + e + "\n\n")
	}
	return b.String()
}

// aws frames messages of a bedrock stream, given as kind and payload in turn.
func aws(kindsAndPayloads ...string) string {
	var b []byte
	for n := 0; n < len(kindsAndPayloads); n += 2 {
		m := eventstream.Message{Type: eventstream.Event, Kind: kindsAndPayloads[n], ContentType: "application/json", Payload: []byte(kindsAndPayloads[n+1])}
		if strings.HasSuffix(m.Kind, "Exception") {
			m.Type = eventstream.Exception
		}
		b = eventstream.AppendMessage(b, m)
	}
	return string(b)
}

func chunk(choices, more string) string {
	return `{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":` + choices + more + `}`
}

func delta(d string) string {
	return chunk(`[{"index":0,"delta":`+d+`,"finish_reason":null}]`, "")
}

func stop(reason string) string {
	return chunk(`[{"index":0,"delta":{},"finish_reason":"`+reason+`"}]`, "")
}

const (
	roleOnly = `{"role":"assistant","content":""}`
	chatUse  = `,"usage":{"prompt_tokens":11,"completion_tokens":5,"total_tokens":16}`
	fullUse  = `,"usage":{"prompt_tokens":2006,"completion_tokens":300,"total_tokens":2306,"prompt_tokens_details":{"cached_tokens":1920,"audio_tokens":0},` +
		`"completion_tokens_details":{"reasoning_tokens":192,"accepted_prediction_tokens":0}}`
	toolPart1 = `{"role":"assistant","content":null,"tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":"look","arguments":""}}]}`
	toolPart2 = `{"tool_calls":[{"index":0,"function":{"arguments":"{\"a\":1}"}}]}`

	begun = "begun parsed"
	whole = "begun parsed finished terminal"
)

var (
	small = Usage{Prompt: 11, Completion: 5, Total: 16}
	full  = Usage{Prompt: 2006, Completion: 300, Total: 2306, Cached: 1920, Reasoning: 192}
)

var corpus = []script{
	// openai-chat: streams.
	{
		"chat: usage in an extra chunk", protocol.OpenAIChat,
		sse(delta(roleOnly), delta(`{"content":"Hel"}`), delta(`{"content":"lo"}`), stop("stop"), chunk("[]", fullUse), "[DONE]"),
		seen{full, whole, "", "Hello"},
	},
	{
		"chat: usage null in every chunk before", protocol.OpenAIChat,
		sse(chunk(`[{"index":0,"delta":{"content":"a"},"finish_reason":null}]`, `,"usage":null`), chunk(`[{"index":0,"delta":{},"finish_reason":"stop"}]`, `,"usage":null`), chunk("[]", chatUse), "[DONE]"),
		seen{small, whole, "", "a"},
	},
	{
		"chat: usage in the last chunk, beside the reason (DeepSeek)", protocol.OpenAIChat,
		sse(delta(`{"content":"a"}`), chunk(`[{"index":0,"delta":{"content":""},"finish_reason":"stop"}]`,
			`,"usage":{"prompt_tokens":20,"completion_tokens":4,"total_tokens":24,"prompt_tokens_details":{"cached_tokens":16},"prompt_cache_hit_tokens":16,"prompt_cache_miss_tokens":4}`), "[DONE]"),
		seen{Usage{Prompt: 20, Completion: 4, Total: 24, Cached: 16}, whole, "", "a"},
	},
	{
		"chat: usage in the first chunk alone", protocol.OpenAIChat,
		sse(chunk(`[{"index":0,"delta":{"role":"assistant"},"finish_reason":null}]`, chatUse), delta(`{"content":"a"}`), stop("stop"), "[DONE]"),
		seen{small, whole, "", "a"},
	},
	{
		"chat: usage in every chunk, growing (vLLM)", protocol.OpenAIChat,
		sse(
			chunk(`[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]`, `,"usage":{"prompt_tokens":9,"total_tokens":9,"completion_tokens":0}`),
			chunk(`[{"index":0,"delta":{"content":"a"},"finish_reason":null}]`, `,"usage":{"prompt_tokens":9,"total_tokens":10,"completion_tokens":1}`),
			chunk(`[{"index":0,"delta":{"content":"b"},"finish_reason":"length"}]`, `,"usage":{"prompt_tokens":9,"total_tokens":11,"completion_tokens":2}`),
			chunk(`[]`, `,"usage":{"prompt_tokens":9,"total_tokens":11,"completion_tokens":2}`), "[DONE]",
		),
		seen{Usage{Prompt: 9, Completion: 2, Total: 11}, whole, "", "ab"},
	},
	{
		"chat: usage in every chunk of a stream that is cut: the one so far", protocol.OpenAIChat,
		sse(
			chunk(`[{"index":0,"delta":{"content":"a"},"finish_reason":null}]`, `,"usage":{"prompt_tokens":9,"total_tokens":10,"completion_tokens":1}`),
			chunk(`[{"index":0,"delta":{"content":"b"},"finish_reason":null}]`, `,"usage":{"prompt_tokens":9,"total_tokens":11,"completion_tokens":2}`),
		),
		seen{Usage{Prompt: 9, Completion: 2, Total: 11}, begun, "", "ab"},
	},
	{
		"chat: usage in a corner of the provider's own (Groq)", protocol.OpenAIChat,
		sse(chunk(`[{"index":0,"delta":{"content":"a"},"finish_reason":null}]`, `,"x_groq":{"id":"req"}`),
			chunk(`[{"index":0,"delta":{},"finish_reason":"stop"}]`, `,"x_groq":{"id":"req","usage":{"queue_time":0.01,"prompt_tokens":11,"completion_tokens":5,"total_tokens":16}}`), "[DONE]"),
		seen{small, whole, "", "a"},
	},
	{
		"chat: usage inside the choice (Moonshot)", protocol.OpenAIChat,
		sse(delta(`{"content":"a"}`), chunk(`[{"index":0,"delta":{},"finish_reason":"stop","usage":{"prompt_tokens":11,"completion_tokens":5,"total_tokens":16}}]`, ""), "[DONE]"),
		seen{small, whole, "", "a"},
	},
	{
		"chat: usage without a total", protocol.OpenAIChat,
		sse(delta(`{"content":"a"}`), stop("stop"), chunk("[]", `,"usage":{"prompt_tokens":3,"completion_tokens":4}`), "[DONE]"),
		seen{Usage{Prompt: 3, Completion: 4, Total: 7}, whole, "", "a"},
	},
	{
		"chat: usage after the terminator is still usage", protocol.OpenAIChat,
		sse(delta(`{"content":"a"}`), stop("stop"), "[DONE]", chunk("[]", chatUse)),
		seen{small, whole, "", "a"},
	},
	{
		"chat: usage with cache writes (OpenRouter)", protocol.OpenAIChat,
		sse(": OPENROUTER PROCESSING", delta(`{"role":"assistant","content":"a"}`), stop("stop"),
			chunk("[]", `,"usage":{"prompt_tokens":100,"completion_tokens":1,"total_tokens":101,"cost":0.1,"prompt_tokens_details":{"cached_tokens":0,"cache_write_tokens":90}}`), "[DONE]"),
		seen{Usage{Prompt: 100, Completion: 1, Total: 101, CacheCreation: 90}, whole, "", "a"},
	},
	{
		"chat: counts as floats, negative ones and texts", protocol.OpenAIChat,
		sse(delta(`{"content":"a"}`), stop("stop"), chunk("[]", `,"usage":{"prompt_tokens":3.0,"completion_tokens":-4,"total_tokens":"9"}`), "[DONE]"),
		seen{Usage{Prompt: 3, Total: 3}, whole, "", "a"},
	},
	{
		"chat: no usage", protocol.OpenAIChat,
		sse(delta(`{"content":"a"}`), stop("stop"), "[DONE]"),
		seen{Usage{}, whole, "", "a"},
	},
	{
		"chat: a tool call", protocol.OpenAIChat,
		sse(delta(toolPart1), delta(toolPart2), stop("tool_calls"), chunk("[]", chatUse), "[DONE]"),
		seen{small, whole + " tools", "", ""},
	},
	{
		"chat: the old kind of tool call", protocol.OpenAIChat,
		sse(delta(`{"role":"assistant","function_call":{"name":"look","arguments":""}}`), stop("function_call"), "[DONE]"),
		seen{Usage{}, whole + " tools", "", ""},
	},
	{
		"chat: empty lists of tool calls call none", protocol.OpenAIChat,
		sse(delta(`{"content":"a","tool_calls":[]}`), delta(`{"content":"b","tool_calls":null}`), delta(`{"content":"c","tool_calls": [ ]}`), stop("stop"), "[DONE]"),
		seen{Usage{}, whole, "", "abc"},
	},
	{
		"chat: text that speaks of tools, usage and errors", protocol.OpenAIChat,
		sse(delta(`{"content":"{\"tool_calls\":[1],\"usage\":{\"prompt_tokens\":5},\"finish_reason\":\"stop\",\"error\":{}}"}`)),
		seen{Usage{}, begun, "", `{"tool_calls":[1],"usage":{"prompt_tokens":5},"finish_reason":"stop","error":{}}`},
	},
	{
		"chat: reasoning first", protocol.OpenAIChat,
		sse(delta(roleOnly), delta(`{"content":null,"reasoning_content":"hm"}`)),
		seen{Usage{}, begun, "", ""},
	},
	{
		"chat: a refusal", protocol.OpenAIChat,
		sse(delta(`{"role":"assistant","content":"","refusal":null}`), delta(`{"refusal":"no"}`)),
		seen{Usage{}, begun, "", ""},
	},
	{
		"chat: announcements alone are no beginning", protocol.OpenAIChat,
		sse(chunk("[]", `,"prompt_filter_results":[{"prompt_index":0,"content_filter_results":{"hate":{"filtered":false,"severity":"safe"}}}]`), delta(roleOnly)),
		seen{Usage{}, "parsed", "", ""},
	},
	{
		"chat: an empty answer that was meant", protocol.OpenAIChat,
		sse(delta(roleOnly), stop("content_filter"), "[DONE]"),
		seen{Usage{}, whole, "", ""},
	},
	{
		"chat: several choices", protocol.OpenAIChat,
		sse(chunk(`[{"index":0,"delta":{"content":"a"},"finish_reason":null},{"index":1,"delta":{"content":"b"},"finish_reason":null}]`, ""), stop("stop"), chunk("[]", chatUse), "[DONE]"),
		seen{small, whole, "", "ab"},
	},
	{
		"chat: an error as first event", protocol.OpenAIChat,
		sse(`{"error":{"message":"slow down","type":"rate_limit_error","code":"rate_limit_exceeded"}}`),
		seen{Usage{}, "", "429 the provider reports: rate_limit_error rate_limit_exceeded: slow down", ""},
	},
	{
		"chat: an error after the usage", protocol.OpenAIChat,
		sse(delta(`{"content":"a"}`), chunk("[]", chatUse), `{"error":{"message":"lost","type":"server_error"}}`),
		seen{small, begun, "502 the provider reports: server_error: lost", "a"},
	},
	{
		"chat: an error as a text (Ollama)", protocol.OpenAIChat,
		sse(`{"error":"model is gone"}`),
		seen{Usage{}, "", "502 the provider reports: model is gone", ""},
	},
	{
		"chat: an error beside a choice, with a status (OpenRouter)", protocol.OpenAIChat,
		sse(delta(roleOnly), `{"id":"c","error":{"code":429,"message":"busy"},"choices":[{"index":0,"delta":{"content":""},"finish_reason":"error"}]}`),
		seen{Usage{}, "parsed", "429 the provider reports: busy", ""},
	},
	{
		"chat: error null is none", protocol.OpenAIChat,
		sse(chunk(`[{"index":0,"delta":{"content":"a"},"finish_reason":"stop"}]`, `,"error":null`)),
		seen{Usage{}, begun + " finished", "", "a"},
	},
	{
		"chat: blank and null reasons are none", protocol.OpenAIChat,
		sse(delta(`{"content":"a"}`), chunk(`[{"index":0,"delta":{},"finish_reason":""}]`, "")),
		seen{Usage{}, begun, "", "a"},
	},
	{
		"chat: no space behind data, comments, other fields", protocol.OpenAIChat,
		": hello\n\nid: 1\nevent: message\ndata:" + delta(`{"content":"a"}`) + "\n\n: ping\n\nretry: 3\n\ndata:" + chunk("[]", chatUse) + "\n\ndata:[DONE]\n\n",
		seen{small, "begun parsed terminal", "", "a"},
	},
	{
		"chat: data over several lines", protocol.OpenAIChat,
		"data: {\"choices\":[{\"index\":0,\ndata: \"delta\":{\"content\":\"a\"},\"finish_reason\":null}]}\n\ndata: {\"choices\":[],\ndata: \"usage\":{\"prompt_tokens\":11,\ndata: \"completion_tokens\":5}}\n\n",
		seen{small, begun, "", "a"},
	},
	{
		"chat: events without the last empty line", protocol.OpenAIChat,
		strings.TrimRight(sse(delta(`{"content":"a"}`), stop("stop"), chunk("[]", chatUse), "[DONE]"), "\n"),
		seen{small, whole, "", "a"},
	},
	{
		"chat: spaces wherever JSON has them", protocol.OpenAIChat,
		sse(`{ "choices" : [ { "index" : 0 , "delta" : { "content" : "a" } , "finish_reason" : "stop" } ] , "usage" : { "prompt_tokens" : 11 , "completion_tokens" : 5 } }`, "[DONE]"),
		seen{small, whole, "", "a"},
	},
	{
		"chat: an event that is no JSON among others", protocol.OpenAIChat,
		sse(delta(`{"content":"a"}`), `{"choices":[{"delta":{"content`, stop("stop"), "[DONE]"),
		seen{Usage{}, whole, "", "a"},
	},
	{
		"chat: events of nobody's protocol", protocol.OpenAIChat,
		sse("data: hello", `{"text":"world"}`),
		seen{Usage{}, "begun", "", ""},
	},

	// openai-chat and openai-embeddings: bodies.
	{
		"chat body", protocol.OpenAIChat,
		`{"id":"c","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"Hello"},"finish_reason":"stop"}]` + fullUse + `}`,
		seen{full, "finished", "", "Hello"},
	},
	{
		"chat body: tools", protocol.OpenAIChat,
		`{"choices":[{"index":0,"message":{"role":"assistant","content":null,"tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}]},"finish_reason":"tool_calls"}]` + chatUse + `}`,
		seen{small, "finished tools", "", ""},
	},
	{
		"chat body: several choices, a space between their texts", protocol.OpenAIChat,
		`{"choices":[{"index":0,"message":{"content":"a"},"finish_reason":"stop"},{"index":1,"message":{"content":"b","tool_calls":[]},"finish_reason":"stop"}]` + chatUse + `}`,
		seen{small, "finished", "", "a b"},
	},
	{
		"chat body: an error with status 200", protocol.OpenAIChat,
		`{"error":{"message":"no","type":"overloaded_error"}}`,
		seen{Usage{}, "", "529 the provider reports: overloaded_error: no", ""},
	},
	{
		"chat body: no JSON", protocol.OpenAIChat, `<html>fine</html>`, seen{},
	},
	{
		"embeddings body", protocol.OpenAIEmbeddings,
		`{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.1,-0.2]}],"model":"e","usage":{"prompt_tokens":8,"total_tokens":8}}`,
		seen{Usage{Prompt: 8, Total: 8}, "", "", ""},
	},

	// openai-responses.
	{
		"responses: text", protocol.OpenAIResponses,
		named(
			`{"type":"response.created","sequence_number":0,"response":{"id":"r","status":"in_progress","error":null,"usage":null}}`,
			`{"type":"response.in_progress","response":{"id":"r"}}`,
			`{"type":"response.output_item.added","output_index":0,"item":{"id":"i","type":"message","content":[]}}`,
			`{"type":"response.content_part.added","part":{"type":"output_text","text":""}}`,
			`{"type":"response.output_text.delta","delta":"Hel"}`,
			`{"type":"response.output_text.delta","delta":"lo"}`,
			`{"type":"response.output_text.done","text":"Hello"}`,
			`{"type":"response.completed","response":{"id":"r","status":"completed","output":[{"type":"message","content":[{"type":"output_text","text":"Hello"}]}],`+
				`"usage":{"input_tokens":36,"input_tokens_details":{"cached_tokens":32},"output_tokens":87,"output_tokens_details":{"reasoning_tokens":64},"total_tokens":123}}}`,
		),
		seen{Usage{Prompt: 36, Completion: 87, Total: 123, Cached: 32, Reasoning: 64}, whole, "", "Hello"},
	},
	{
		"responses: a function call", protocol.OpenAIResponses,
		named(
			`{"type":"response.created","response":{"id":"r"}}`,
			`{"type":"response.output_item.added","item":{"type":"function_call","name":"f","arguments":""}}`,
			`{"type":"response.function_call_arguments.delta","delta":"{}"}`,
			`{"type":"response.completed","response":{"status":"completed","output":[{"type":"function_call","name":"f"}],"usage":{"input_tokens":1,"output_tokens":2,"total_tokens":3}}}`,
		),
		seen{Usage{Prompt: 1, Completion: 2, Total: 3}, whole + " tools", "", ""},
	},
	{
		"responses: incomplete", protocol.OpenAIResponses,
		named(
			`{"type":"response.output_text.delta","delta":"a"}`,
			`{"type":"response.incomplete","response":{"status":"incomplete","incomplete_details":{"reason":"max_output_tokens"},"usage":{"input_tokens":1,"output_tokens":2,"total_tokens":3}}}`,
		),
		seen{Usage{Prompt: 1, Completion: 2, Total: 3}, whole, "", "a"},
	},
	{
		"responses: announcements alone are no beginning", protocol.OpenAIResponses,
		named(`{"type":"response.created","response":{}}`, `{"type":"response.queued","response":{}}`, `{"type":"response.output_item.added","item":{"type":"reasoning"}}`),
		seen{Usage{}, "parsed", "", ""},
	},
	{
		"responses: failed after text, with usage", protocol.OpenAIResponses,
		named(
			`{"type":"response.output_text.delta","delta":"a"}`,
			`{"type":"response.failed","response":{"status":"failed","error":{"code":"server_error","message":"lost"},"usage":{"input_tokens":4,"output_tokens":1,"total_tokens":5}}}`,
		),
		seen{Usage{Prompt: 4, Completion: 1, Total: 5}, whole, "502 the provider reports: server_error: lost", "a"},
	},
	{
		"responses: failed at once, without a reason", protocol.OpenAIResponses,
		named(`{"type":"response.created","response":{}}`, `{"type":"response.failed","response":{"status":"failed","error":null}}`),
		seen{Usage{}, "parsed finished terminal", "502 the provider reports: ", ""},
	},
	{
		"responses: an error event", protocol.OpenAIResponses,
		named(`{"type":"response.created","response":{}}`, `{"type":"error","code":"rate_limit_exceeded","message":"slow down","param":null}`),
		seen{Usage{}, "parsed", "429 the provider reports: rate_limit_exceeded: slow down", ""},
	},
	{
		"responses: an error event with the error in a member", protocol.OpenAIResponses,
		named(`{"type":"error","error":{"type":"server_error","code":"503","message":"away"}}`),
		seen{Usage{}, "parsed", "503 the provider reports: server_error 503: away", ""},
	},
	{
		"responses: text that speaks of the end", protocol.OpenAIResponses,
		named(`{"type":"response.output_text.delta","delta":"\"type\":\"response.completed\""}`),
		seen{Usage{}, begun, "", `"type":"response.completed"`},
	},
	{
		"responses: the type is not the first member", protocol.OpenAIResponses,
		sse(`{"delta":"a","type":"response.output_text.delta"}`, `{"response":{"usage":{"input_tokens":1,"output_tokens":1,"total_tokens":2}},"type":"response.completed"}`),
		seen{Usage{Prompt: 1, Completion: 1, Total: 2}, whole, "", "a"},
	},
	{
		"responses: cut inside the last event", protocol.OpenAIResponses,
		sse(`{"type":"response.output_text.delta","delta":"a"}`) + `data: {"type":"response.completed","response":{"usage":{"inp`,
		seen{Usage{}, begun, "", "a"},
	},
	{
		"responses body", protocol.OpenAIResponses,
		`{"id":"r","object":"response","status":"completed","error":null,"output":[{"type":"reasoning","summary":[]},{"type":"function_call","name":"f","arguments":"{}"},` +
			`{"type":"message","content":[{"type":"output_text","text":"a"},{"type":"output_text","text":"b"}]}],"usage":{"input_tokens":36,"output_tokens":87,"total_tokens":123}}`,
		seen{Usage{Prompt: 36, Completion: 87, Total: 123}, "finished tools", "", "a b"},
	},

	// anthropic-messages.
	{
		"anthropic: text", protocol.AnthropicMessages,
		named(
			`{"type":"message_start","message":{"id":"m","type":"message","role":"assistant","content":[],"usage":{"input_tokens":25,"cache_creation_input_tokens":100,"cache_read_input_tokens":50,"output_tokens":1}}}`,
			`{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}`,
			`{"type":"ping"}`,
			`{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hel"}}`,
			`{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"lo"}}`,
			`{"type":"content_block_stop","index":0}`,
			`{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":15}}`,
			`{"type":"message_stop"}`,
		),
		seen{Usage{Prompt: 25, Completion: 15, Total: 40, Cached: 50, CacheCreation: 100}, whole, "", "Hello"},
	},
	{
		"anthropic: the last count repeats the first", protocol.AnthropicMessages,
		named(
			`{"type":"message_start","message":{"usage":{"input_tokens":25,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":4}}}`,
			`{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a"}}`,
			`{"type":"message_delta","delta":{"stop_reason":"max_tokens"},"usage":{"input_tokens":25,"cache_creation_input_tokens":0,"cache_read_input_tokens":7,"output_tokens":9}}`,
			`{"type":"message_stop"}`,
		),
		seen{Usage{Prompt: 25, Completion: 9, Total: 34, Cached: 7}, whole, "", "a"},
	},
	{
		"anthropic: the first count is empty, the last one is zero where the first was not", protocol.AnthropicMessages,
		named(
			`{"type":"message_start","message":{"usage":{"input_tokens":25,"output_tokens":0}}}`,
			`{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a"}}`,
			`{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"input_tokens":0,"output_tokens":9}}`,
			`{"type":"message_stop"}`,
		),
		seen{Usage{Prompt: 25, Completion: 9, Total: 34}, whole, "", "a"},
	},
	{
		"anthropic: cut after the start: what was told", protocol.AnthropicMessages,
		named(`{"type":"message_start","message":{"usage":{"input_tokens":25,"output_tokens":1}}}`, `{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a"}}`),
		seen{Usage{Prompt: 25, Completion: 1, Total: 26}, begun, "", "a"},
	},
	{
		"anthropic: a tool", protocol.AnthropicMessages,
		named(
			`{"type":"message_start","message":{"usage":{"input_tokens":472,"output_tokens":2}}}`,
			`{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"t","name":"look","input":{}}}`,
			`{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{\"a\":1}"}}`,
			`{"type":"message_delta","delta":{"stop_reason":"tool_use"},"usage":{"output_tokens":89}}`,
			`{"type":"message_stop"}`,
		),
		seen{Usage{Prompt: 472, Completion: 89, Total: 561}, whole + " tools", "", ""},
	},
	{
		"anthropic: thinking first", protocol.AnthropicMessages,
		named(
			`{"type":"message_start","message":{"usage":{"input_tokens":3,"output_tokens":1}}}`,
			`{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}`,
			`{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"hm"}}`,
		),
		seen{Usage{Prompt: 3, Completion: 1, Total: 4}, begun, "", ""},
	},
	{
		"anthropic: announcements alone are no beginning", protocol.AnthropicMessages,
		named(`{"type":"message_start","message":{"usage":{"input_tokens":3,"output_tokens":0}}}`, `{"type":"ping"}`, `{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}`),
		seen{Usage{Prompt: 3, Total: 3}, "parsed", "", ""},
	},
	{
		"anthropic: overloaded as second event", protocol.AnthropicMessages,
		named(`{"type":"message_start","message":{"usage":{"input_tokens":3,"output_tokens":0}}}`, `{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}`),
		seen{Usage{Prompt: 3, Total: 3}, "parsed", "529 the provider reports: overloaded_error: Overloaded", ""},
	},
	{
		"anthropic: an error after the last count", protocol.AnthropicMessages,
		named(
			`{"type":"message_start","message":{"usage":{"input_tokens":3,"output_tokens":0}}}`,
			`{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a"}}`,
			`{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":2}}`,
			`{"type":"error","error":{"type":"api_error","message":"lost"}}`,
		),
		seen{Usage{Prompt: 3, Completion: 2, Total: 5}, begun + " finished", "502 the provider reports: api_error: lost", "a"},
	},
	{
		"anthropic: text that speaks of the end", protocol.AnthropicMessages,
		named(`{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"{\"type\":\"message_stop\"}"}}`),
		seen{Usage{}, begun, "", `{"type":"message_stop"}`},
	},
	{
		"anthropic: cut inside the last event", protocol.AnthropicMessages,
		named(`{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a"}}`) + `data: {"type":"message_stop"`,
		seen{Usage{}, begun, "", "a"},
	},
	{
		"anthropic body", protocol.AnthropicMessages,
		`{"id":"m","type":"message","role":"assistant","content":[{"type":"thinking","thinking":"hm"},{"type":"text","text":"a"},{"type":"text","text":"b"},{"type":"tool_use","id":"t","name":"f","input":{}}],` +
			`"stop_reason":"tool_use","usage":{"input_tokens":10,"cache_creation_input_tokens":3,"cache_read_input_tokens":4,"output_tokens":20}}`,
		seen{Usage{Prompt: 10, Completion: 20, Total: 30, Cached: 4, CacheCreation: 3}, "finished tools", "", "a b"},
	},

	// bedrock-converse.
	{
		"bedrock: text", protocol.BedrockConverse,
		aws(
			"messageStart", `{"role":"assistant"}`,
			"contentBlockDelta", `{"contentBlockIndex":0,"delta":{"text":"Hel"}}`,
			"contentBlockDelta", `{"contentBlockIndex":0,"delta":{"text":"lo"}}`,
			"contentBlockStop", `{"contentBlockIndex":0}`,
			"messageStop", `{"stopReason":"end_turn"}`,
			"metadata", `{"usage":{"inputTokens":30,"outputTokens":8,"totalTokens":38,"cacheReadInputTokens":5,"cacheWriteInputTokens":6},"metrics":{"latencyMs":12}}`,
		),
		seen{Usage{Prompt: 30, Completion: 8, Total: 38, Cached: 5, CacheCreation: 6}, whole, "", "Hello"},
	},
	{
		"bedrock: a tool", protocol.BedrockConverse,
		aws(
			"messageStart", `{"role":"assistant"}`,
			"contentBlockStart", `{"contentBlockIndex":0,"start":{"toolUse":{"toolUseId":"t","name":"f"}}}`,
			"contentBlockDelta", `{"contentBlockIndex":0,"delta":{"toolUse":{"input":"{}"}}}`,
			"messageStop", `{"stopReason":"tool_use"}`,
			"metadata", `{"usage":{"inputTokens":1,"outputTokens":2}}`,
		),
		seen{Usage{Prompt: 1, Completion: 2, Total: 3}, whole + " tools", "", ""},
	},
	{
		"bedrock: stopped, but not counted", protocol.BedrockConverse,
		aws("messageStart", `{"role":"assistant"}`, "contentBlockDelta", `{"delta":{"text":"a"}}`, "messageStop", `{"stopReason":"end_turn"}`),
		seen{Usage{}, begun + " finished", "", "a"},
	},
	{
		"bedrock: throttled as second message", protocol.BedrockConverse,
		aws("messageStart", `{"role":"assistant"}`, "throttlingException", `{"message":"slow down"}`),
		seen{Usage{}, "parsed", "429 the provider reports: throttlingException: slow down", ""},
	},
	{
		"bedrock: an exception in the middle, without a text", protocol.BedrockConverse,
		aws("contentBlockDelta", `{"delta":{"text":"a"}}`, "modelStreamErrorException", ``),
		seen{Usage{}, begun, "502 the provider reports: modelStreamErrorException", "a"},
	},
	{
		"bedrock body", protocol.BedrockConverse,
		`{"output":{"message":{"role":"assistant","content":[{"text":"a"},{"toolUse":{"toolUseId":"t","name":"f","input":{}}}]}},"stopReason":"tool_use","usage":{"inputTokens":3,"outputTokens":4,"totalTokens":7}}`,
		seen{Usage{Prompt: 3, Completion: 4, Total: 7}, "finished tools", "", "a"},
	},

	// gemini-generate and vertex-predict.
	{
		"gemini: text and thoughts", protocol.GeminiGenerate,
		sse(
			`{"candidates":[{"content":{"parts":[{"text":"hm","thought":true}],"role":"model"},"index":0}],"usageMetadata":{"promptTokenCount":6,"totalTokenCount":26,"thoughtsTokenCount":20},"modelVersion":"g"}`,
			`{"candidates":[{"content":{"parts":[{"text":"Hel"}],"role":"model"},"index":0}],"usageMetadata":{"promptTokenCount":6,"candidatesTokenCount":2,"totalTokenCount":28,"thoughtsTokenCount":20}}`,
			`{"candidates":[{"content":{"parts":[{"text":"lo"}],"role":"model"},"finishReason":"STOP","index":0}],"usageMetadata":{"promptTokenCount":6,"candidatesTokenCount":4,"totalTokenCount":30,"thoughtsTokenCount":20,"cachedContentTokenCount":5}}`,
		),
		seen{Usage{Prompt: 6, Completion: 24, Total: 30, Cached: 5, Reasoning: 20}, begun + " finished", "", "Hello"},
	},
	{
		"gemini: a function call, and what tools cost", protocol.GeminiGenerate,
		sse(`{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","args":{}}}]},"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":6,"toolUsePromptTokenCount":3,"candidatesTokenCount":4,"totalTokenCount":13}}`),
		seen{Usage{Prompt: 9, Completion: 4, Total: 13}, begun + " finished tools", "", ""},
	},
	{
		"gemini: a prompt that is blocked", protocol.GeminiGenerate,
		sse(`{"promptFeedback":{"blockReason":"SAFETY"},"usageMetadata":{"promptTokenCount":6,"totalTokenCount":6}}`),
		seen{Usage{Prompt: 6, Total: 6}, begun + " finished", "", ""},
	},
	{
		"gemini: an error with its status", protocol.GeminiGenerate,
		sse(`{"error":{"code":503,"message":"busy","status":"UNAVAILABLE"}}`),
		seen{Usage{}, "", "503 the provider reports: UNAVAILABLE: busy", ""},
	},
	{
		"gemini: an error after the usage", protocol.GeminiGenerate,
		sse(
			`{"candidates":[{"content":{"parts":[{"text":"a"}]}}],"usageMetadata":{"promptTokenCount":6,"candidatesTokenCount":1,"totalTokenCount":7}}`,
			`{"error":{"code":429,"message":"quota","status":"RESOURCE_EXHAUSTED"}}`,
		),
		seen{Usage{Prompt: 6, Completion: 1, Total: 7}, begun, "429 the provider reports: RESOURCE_EXHAUSTED: quota", "a"},
	},
	{
		"gemini body", protocol.GeminiGenerate,
		`{"candidates":[{"content":{"parts":[{"text":"a"},{"functionCall":{"name":"f"}}]},"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":6,"candidatesTokenCount":1,"totalTokenCount":7}}`,
		seen{Usage{Prompt: 6, Completion: 1, Total: 7}, "finished tools", "", "a"},
	},
	{
		"predict body", protocol.VertexPredict,
		`{"predictions":[{"embeddings":{"values":[0.1],"statistics":{"truncated":false,"token_count":4}}},{"embeddings":{"values":[0.2],"statistics":{"token_count":6}}}]}`,
		seen{Usage{Prompt: 10, Total: 10}, "finished", "", ""},
	},

	// What nothing is known of.
	{
		"passthrough", protocol.Passthrough, sse(delta(`{"content":"a"}`), chunk("[]", chatUse), "[DONE]"), seen{Usage{}, "begun", "", ""},
	},
}
