package fakellm

import (
	"encoding/json"
	"fmt"
)

// messages is anthropic-messages.
type messages struct{}

func (messages) ask(_ string, body []byte) (q question, err error) {
	var in struct {
		Model    string
		Stream   bool
		Messages []struct {
			Role    string
			Content any
		}
		Tools []struct{ Name string }
	}
	if err := json.Unmarshal(body, &in); err != nil || len(in.Messages) == 0 {
		return q, errNoMessages
	}
	last := in.Messages[len(in.Messages)-1]
	q = question{model: in.Model, stream: in.Stream, last: textOf(last.Content)}
	if len(in.Tools) > 0 && !holds(last.Content, "tool_result") {
		q.tool = in.Tools[0].Name
	}
	return q, nil
}

// holds reports whether a content has a part of that type.
func holds(content any, kind string) bool {
	list, _ := content.([]any)
	for _, part := range list {
		if part, ok := part.(object); ok && part["type"] == kind {
			return true
		}
	}
	return false
}

// blocks are the parts of an answer.
func (messages) blocks(r *reply) (list []object) {
	if r.think {
		list = append(list, object{"type": "thinking", "thinking": thought, "signature": "c2lnbmVk"})
	}
	if r.call {
		return append(list, object{"type": "tool_use", "id": "toolu_1", "name": r.tool, "input": json.RawMessage(r.arguments())})
	}
	return append(list, object{"type": "text", "text": r.text()})
}

// usage counts: what is cached is no part of the input.
func (messages) usage(r *reply, output int) object {
	prompt, cached, _, _ := r.tokens()
	return object{"input_tokens": prompt - cached, "cache_read_input_tokens": cached, "cache_creation_input_tokens": 0, "output_tokens": output}
}

func (messages) reason(r *reply) string {
	if r.call {
		return "tool_use"
	}
	return "end_turn"
}

func (d messages) message(r *reply, content any, reason any, output int) object {
	return object{
		"id": "msg_fake", "type": "message", "role": "assistant", "model": r.model, "content": content, "stop_reason": reason,
		"stop_sequence": nil, "usage": d.usage(r, output),
	}
}

func (d messages) whole(r *reply) any {
	_, _, completion, _ := r.tokens()
	return d.message(r, d.blocks(r), d.reason(r), completion)
}

func (messages) contentType() string { return "text/event-stream" }

func (d messages) events(r *reply) (parts [][]byte) {
	say := func(kind string, more object) {
		more["type"] = kind
		parts = append(parts, named(kind, more))
	}
	say("message_start", object{"message": d.message(r, []any{}, nil, 1)})
	for n, block := range d.blocks(r) {
		var begun object
		var deltas []object
		switch block["type"] {
		case "thinking":
			begun = object{"type": "thinking", "thinking": "", "signature": ""}
			deltas = []object{{"type": "thinking_delta", "thinking": thought}, {"type": "signature_delta", "signature": "c2lnbmVk"}}
		case "tool_use":
			begun = object{"type": "tool_use", "id": block["id"], "name": block["name"], "input": object{}}
			text := r.arguments()
			for _, part := range []string{"", text[:len(text)/2], text[len(text)/2:]} {
				deltas = append(deltas, object{"type": "input_json_delta", "partial_json": part})
			}
		default:
			begun = object{"type": "text", "text": ""}
			for i, word := range r.words {
				if i < len(r.words)-1 {
					word += " "
				}
				deltas = append(deltas, object{"type": "text_delta", "text": word})
			}
		}
		say("content_block_start", object{"index": n, "content_block": begun})
		if n == 0 {
			say("ping", object{})
		}
		for _, delta := range deltas {
			say("content_block_delta", object{"index": n, "delta": delta})
		}
		say("content_block_stop", object{"index": n})
	}
	if r.noEnd {
		return parts
	}
	_, _, completion, _ := r.tokens()
	say("message_delta", object{
		"delta": object{"stop_reason": d.reason(r), "stop_sequence": nil}, "usage": object{"output_tokens": completion},
	})
	say("message_stop", object{})
	return parts
}

func (messages) fail(status int, kind, text string) any {
	if kind == "" {
		kind = map[int]string{
			400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error",
			413: "request_too_large", 429: "rate_limit_error", 529: "overloaded_error",
		}[status]
	}
	if kind == "" {
		kind = "api_error"
	}
	return object{"type": "error", "error": object{"type": kind, "message": text}, "request_id": "req-fake"}
}

func (d messages) broken() []byte { return named("error", d.fail(529, "", "scripted")) }

func (messages) garbled() []byte {
	return fmt.Appendf(nil, "event: content_block_delta\ndata: {\"type\":\"content_block\n\n")
}
