package fakellm

import (
	"encoding/json"
	"net/url"
	"strings"

	"github.com/gosix/gosix/pkg/drivers/eventstream"
)

// converse is bedrock-converse.
type converse struct{}

func (converse) ask(path string, body []byte) (q question, err error) {
	var in struct {
		Messages []struct {
			Role    string
			Content []object
		}
		Tools struct {
			Tools []struct {
				Spec struct{ Name string } `json:"toolSpec"`
			}
		} `json:"toolConfig"`
	}
	if err := json.Unmarshal(body, &in); err != nil || len(in.Messages) == 0 {
		return q, errNoMessages
	}
	q.stream = strings.HasSuffix(path, "/converse-stream")
	if _, rest, ok := strings.Cut(path, "/model/"); ok {
		q.model, _ = url.PathUnescape(rest[:strings.LastIndexByte(rest, '/')])
	}
	last := in.Messages[len(in.Messages)-1].Content
	var texts []string
	answered := false
	for _, part := range last {
		texts = append(texts, textOf(part))
		answered = answered || part["toolResult"] != nil
	}
	q.last = strings.Join(texts, " ")
	if len(in.Tools.Tools) > 0 && !answered {
		q.tool = in.Tools.Tools[0].Spec.Name
	}
	return q, nil
}

func (converse) usage(r *reply) object {
	prompt, cached, completion, _ := r.tokens()
	return object{
		"inputTokens": prompt - cached, "outputTokens": completion, "totalTokens": prompt + completion,
		"cacheReadInputTokens": cached, "cacheWriteInputTokens": 0,
	}
}

func (converse) reason(r *reply) string {
	if r.call {
		return "tool_use"
	}
	return "end_turn"
}

func (d converse) whole(r *reply) any {
	var content []any
	if r.think {
		content = append(content, object{"reasoningContent": object{"reasoningText": object{"text": thought, "signature": "c2lnbmVk"}}})
	}
	if r.call {
		content = append(content, object{"toolUse": object{"toolUseId": "tooluse_1", "name": r.tool, "input": json.RawMessage(r.arguments())}})
	} else {
		content = append(content, object{"text": r.text()})
	}
	return object{
		"output": object{"message": object{"role": "assistant", "content": content}}, "stopReason": d.reason(r),
		"usage": d.usage(r), "metrics": object{"latencyMs": 1},
	}
}

func (converse) contentType() string { return eventstream.ContentType }

func (d converse) events(r *reply) (parts [][]byte) {
	say := func(kind string, payload any) { parts = append(parts, message(eventstream.Event, kind, payload)) }
	say("messageStart", object{"role": "assistant"})
	index := 0
	delta := func(d object) { say("contentBlockDelta", object{"contentBlockIndex": index, "delta": d}) }
	if r.think {
		delta(object{"reasoningContent": object{"text": thought}})
		delta(object{"reasoningContent": object{"signature": "c2lnbmVk"}})
		say("contentBlockStop", object{"contentBlockIndex": index})
		index++
	}
	if r.call {
		say("contentBlockStart", object{"contentBlockIndex": index, "start": object{"toolUse": object{"toolUseId": "tooluse_1", "name": r.tool}}})
		text := r.arguments()
		for _, part := range []string{text[:len(text)/2], text[len(text)/2:]} {
			delta(object{"toolUse": object{"input": part}})
		}
	} else {
		for i, word := range r.words {
			if i < len(r.words)-1 {
				word += " "
			}
			delta(object{"text": word})
		}
	}
	say("contentBlockStop", object{"contentBlockIndex": index})
	if r.noEnd {
		return parts
	}
	say("messageStop", object{"stopReason": d.reason(r)})
	say("metadata", object{"usage": d.usage(r), "metrics": object{"latencyMs": 1}})
	return parts
}

func message(kind, name string, payload any) []byte {
	p, _ := json.Marshal(payload)
	return eventstream.AppendMessage(nil, eventstream.Message{Type: kind, Kind: name, ContentType: "application/json", Payload: p})
}

func (converse) fail(_ int, _, text string) any { return object{"message": text} }

func (converse) broken() []byte {
	return message(eventstream.Exception, "internalServerException", object{"message": "scripted"})
}

func (converse) garbled() []byte {
	return eventstream.AppendMessage(nil, eventstream.Message{
		Type: eventstream.Event, Kind: "contentBlockDelta", ContentType: "application/json", Payload: []byte(`{"delta":{`),
	})
}
