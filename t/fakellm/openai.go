package fakellm

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

type object = map[string]any

// event frames a server-sent event.
func event(data any) []byte { return named("", data) }

func named(name string, data any) []byte {
	p, _ := json.Marshal(data)
	if name != "" {
		return fmt.Appendf(nil, "event: %s\ndata: %s\n\n", name, p)
	}
	return fmt.Appendf(nil, "data: %s\n\n", p)
}

// textOf is what a message says, whatever the shape of its content: a text, or parts that
// have one.
func textOf(content any) string {
	switch c := content.(type) {
	case string:
		return c
	case []any:
		var texts []string
		for _, part := range c {
			if text := textOf(part); text != "" {
				texts = append(texts, text)
			}
		}
		return strings.Join(texts, " ")
	case object:
		for _, name := range []string{"text", "content", "parts", "output", "toolResult", "functionResponse", "json", "response", "result"} {
			if text := textOf(c[name]); text != "" {
				return text
			}
		}
	}
	return ""
}

// chat is openai-chat.
type chat struct{}

var errNoMessages = errors.New("messages are missing")

func (chat) ask(_ string, body []byte) (q question, err error) {
	var in struct {
		Model   string
		Stream  bool
		Options struct {
			Usage bool `json:"include_usage"`
		} `json:"stream_options"`
		Messages []struct {
			Role    string
			Content any
		}
		Tools []struct{ Function struct{ Name string } }
	}
	if err := json.Unmarshal(body, &in); err != nil || len(in.Messages) == 0 {
		return q, errNoMessages
	}
	last := in.Messages[len(in.Messages)-1]
	q = question{model: in.Model, stream: in.Stream, counted: in.Options.Usage, last: textOf(last.Content)}
	if len(in.Tools) > 0 && last.Role != "tool" {
		q.tool = in.Tools[0].Function.Name
	}
	return q, nil
}

func (chat) usage(r *reply) object {
	prompt, cached, completion, thoughts := r.tokens()
	return object{
		"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion,
		"prompt_tokens_details":     object{"cached_tokens": cached},
		"completion_tokens_details": object{"reasoning_tokens": thoughts},
	}
}

func (c chat) whole(r *reply) any {
	message, reason := object{"role": "assistant", "content": r.text()}, "stop"
	if r.think {
		message["reasoning_content"] = thought
	}
	if r.call {
		reason = "tool_calls"
		message["content"] = nil
		message["tool_calls"] = []any{object{"id": "call_1", "type": "function", "function": object{"name": r.tool, "arguments": r.arguments()}}}
	}
	return object{
		"id": "chatcmpl-fake", "object": "chat.completion", "created": 1700000000, "model": r.model,
		"choices": []any{object{"index": 0, "message": message, "finish_reason": reason}}, "usage": c.usage(r),
	}
}

func (chat) contentType() string { return "text/event-stream" }

func (c chat) events(r *reply) (parts [][]byte) {
	chunk := func(delta object, reason any) {
		parts = append(parts, event(object{
			"id": "chatcmpl-fake", "object": "chat.completion.chunk", "created": 1700000000, "model": r.model,
			"choices": []any{object{"index": 0, "delta": delta, "finish_reason": reason}},
		}))
	}
	if r.think {
		chunk(object{"role": "assistant", "reasoning_content": thought}, nil)
	}
	for n, word := range r.words {
		delta := object{"content": word + " "}
		if n == 0 {
			delta["role"] = "assistant"
		}
		chunk(delta, nil)
	}
	reason := "stop"
	if r.call {
		reason = "tool_calls"
		text := r.arguments()
		chunk(object{"role": "assistant", "tool_calls": []any{object{
			"index": 0, "id": "call_1", "type": "function", "function": object{"name": r.tool, "arguments": ""},
		}}}, nil)
		for _, part := range []string{text[:len(text)/2], text[len(text)/2:]} {
			chunk(object{"tool_calls": []any{object{"index": 0, "function": object{"arguments": part}}}}, nil)
		}
	}
	if r.noEnd {
		return parts // nothing says that it is over
	}
	chunk(object{}, reason)
	if r.counted {
		parts = append(parts, event(object{
			"id": "chatcmpl-fake", "object": "chat.completion.chunk", "created": 1700000000, "model": r.model,
			"choices": []any{}, "usage": c.usage(r),
		}))
	}
	return append(parts, []byte("data: [DONE]\n\n"))
}

// openAIError is the shape of OpenAI's errors.
func openAIError(status int, kind, text string) object {
	if kind == "" {
		kind = "fake_error"
	}
	return object{"error": object{"message": text, "type": kind, "param": nil, "code": codeOf(status)}}
}

func codeOf(status int) any {
	if status == 429 {
		return "rate_limit_exceeded"
	}
	return nil
}

func (chat) fail(status int, kind, text string) any { return openAIError(status, kind, text) }
func (chat) broken() []byte                         { return event(openAIError(500, "server_error", "scripted")) }

func (chat) garbled() []byte { return []byte("data: {\"id\":\"chatcmpl-fake\",\"choices\":[{\n\n") }

// embeddings is openai-embeddings.
type embeddings struct{ chat }

func (embeddings) ask(_ string, body []byte) (q question, err error) {
	var in struct {
		Model string
		Input any
	}
	if err := json.Unmarshal(body, &in); err != nil || in.Input == nil {
		return q, errors.New("input is missing")
	}
	n := 1
	if list, ok := in.Input.([]any); ok {
		n = len(list)
	}
	return question{model: in.Model, inputs: n}, nil
}

// vector is the embedding of the nth text.
func vector(n int) []float64 { return []float64{float64(n + 1), 0.5, -0.25} }

func (embeddings) whole(r *reply) any {
	data := make([]any, r.inputs)
	for n := range data {
		data[n] = object{"object": "embedding", "index": n, "embedding": vector(n)}
	}
	return object{"object": "list", "model": r.model, "data": data, "usage": object{"prompt_tokens": 7, "total_tokens": 7}}
}

// responses is openai-responses.
type responses struct{}

func (responses) ask(_ string, body []byte) (q question, err error) {
	var in struct {
		Model  string
		Stream bool
		Input  any
		Tools  []struct{ Name string }
	}
	if err := json.Unmarshal(body, &in); err != nil || in.Input == nil {
		return q, errors.New("input is missing")
	}
	q = question{model: in.Model, stream: in.Stream, last: textOf(in.Input)}
	answered := false
	if list, ok := in.Input.([]any); ok && len(list) > 0 {
		last, _ := list[len(list)-1].(object)
		q.last = textOf(last)
		answered = last["type"] == "function_call_output"
	}
	if len(in.Tools) > 0 && !answered {
		q.tool = in.Tools[0].Name
	}
	return q, nil
}

// output is what a response says, its items in their order.
func (responses) output(r *reply) (items []any) {
	if r.think {
		items = append(items, object{"type": "reasoning", "id": "rs_1", "summary": []any{object{"type": "summary_text", "text": thought}}})
	}
	if r.call {
		return append(items, object{
			"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": r.tool, "arguments": r.arguments(), "status": "completed",
		})
	}
	return append(items, object{"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": []any{
		object{"type": "output_text", "text": r.text(), "annotations": []any{}},
	}})
}

func (d responses) response(r *reply, status string, output []any, counted bool) object {
	out := object{
		"id": "resp_fake", "object": "response", "created_at": 1700000000, "status": status, "model": r.model, "output": output,
		"error": nil, "incomplete_details": nil, "usage": nil, "parallel_tool_calls": true, "tool_choice": "auto", "tools": []any{},
	}
	if counted {
		prompt, cached, completion, thoughts := r.tokens()
		out["usage"] = object{
			"input_tokens": prompt, "output_tokens": completion, "total_tokens": prompt + completion,
			"input_tokens_details":  object{"cached_tokens": cached},
			"output_tokens_details": object{"reasoning_tokens": thoughts},
		}
	}
	return out
}

func (d responses) whole(r *reply) any { return d.response(r, "completed", d.output(r), true) }
func (responses) contentType() string  { return "text/event-stream" }

func (d responses) events(r *reply) (parts [][]byte) {
	say := func(kind string, more object) {
		more["type"], more["sequence_number"] = kind, len(parts)
		parts = append(parts, named(kind, more))
	}
	say("response.created", object{"response": d.response(r, "in_progress", []any{}, false)})
	say("response.in_progress", object{"response": d.response(r, "in_progress", []any{}, false)})
	for n, item := range d.output(r) {
		item := item.(object)
		begun := object{"type": item["type"], "id": item["id"]}
		switch item["type"] {
		case "message":
			begun["role"], begun["status"], begun["content"] = "assistant", "in_progress", []any{}
			say("response.output_item.added", object{"output_index": n, "item": begun})
			at := func() object { return object{"item_id": item["id"], "output_index": n, "content_index": 0} }
			part := at()
			part["part"] = object{"type": "output_text", "text": "", "annotations": []any{}}
			say("response.content_part.added", part)
			for i, word := range r.words {
				if i < len(r.words)-1 {
					word += " "
				}
				delta := at()
				delta["delta"] = word
				say("response.output_text.delta", delta)
			}
			done := at()
			done["text"] = r.text()
			say("response.output_text.done", done)
			part = at()
			part["part"] = object{"type": "output_text", "text": r.text(), "annotations": []any{}}
			say("response.content_part.done", part)
		case "function_call":
			begun["call_id"], begun["name"], begun["arguments"], begun["status"] = item["call_id"], item["name"], "", "in_progress"
			say("response.output_item.added", object{"output_index": n, "item": begun})
			text := r.arguments()
			for _, delta := range []string{text[:len(text)/2], text[len(text)/2:]} {
				say("response.function_call_arguments.delta", object{"item_id": item["id"], "output_index": n, "delta": delta})
			}
			say("response.function_call_arguments.done", object{"item_id": item["id"], "output_index": n, "arguments": text})
		default:
			begun["summary"] = []any{}
			say("response.output_item.added", object{"output_index": n, "item": begun})
			at := func() object { return object{"item_id": item["id"], "output_index": n, "summary_index": 0} }
			part := at()
			part["part"] = object{"type": "summary_text", "text": ""}
			say("response.reasoning_summary_part.added", part)
			delta := at()
			delta["delta"] = thought
			say("response.reasoning_summary_text.delta", delta)
			done := at()
			done["text"] = thought
			say("response.reasoning_summary_text.done", done)
		}
		say("response.output_item.done", object{"output_index": n, "item": item})
	}
	if r.noEnd {
		return parts
	}
	say("response.completed", object{"response": d.response(r, "completed", d.output(r), true)})
	return parts
}

func (responses) fail(status int, kind, text string) any { return openAIError(status, kind, text) }

func (responses) broken() []byte {
	return named("error", object{"type": "error", "code": "server_error", "message": "scripted", "param": nil, "sequence_number": 0})
}

func (responses) garbled() []byte {
	return []byte("event: response.output_text.delta\ndata: {\"type\":\"response.output\n\n")
}
