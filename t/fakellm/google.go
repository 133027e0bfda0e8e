package fakellm

import (
	"encoding/json"
	"errors"
	"strings"
)

// generate is Gemini's own protocol.
type generate struct{}

// modelOf is the model in a path like /v1beta/models/m:generateContent.
func modelOf(path string) string {
	path = path[:strings.LastIndexByte(path, ':')]
	return path[strings.LastIndexByte(path, '/')+1:]
}

func (generate) ask(path string, body []byte) (q question, err error) {
	var in struct {
		Contents []struct {
			Role  string
			Parts []object
		}
		Tools []struct {
			Functions []struct{ Name string } `json:"functionDeclarations"`
		}
	}
	if err := json.Unmarshal(body, &in); err != nil || len(in.Contents) == 0 {
		return q, errors.New("contents are missing")
	}
	q.model, q.stream = modelOf(path), strings.HasSuffix(path, ":streamGenerateContent")
	answered := false
	var texts []string
	for _, part := range in.Contents[len(in.Contents)-1].Parts {
		texts = append(texts, textOf(part))
		answered = answered || part["functionResponse"] != nil
	}
	q.last = strings.Join(texts, " ")
	if len(in.Tools) > 0 && len(in.Tools[0].Functions) > 0 && !answered {
		q.tool = in.Tools[0].Functions[0].Name
	}
	return q, nil
}

func (generate) response(r *reply, parts []any, reason string, counted bool) object {
	candidate := object{"index": 0, "content": object{"role": "model", "parts": parts}}
	if reason != "" {
		candidate["finishReason"] = reason
	}
	out := object{"candidates": []any{candidate}, "modelVersion": r.model, "responseId": "gemini-fake"}
	if counted {
		// Thoughts are no part of the candidates' tokens here.
		prompt, cached, completion, thoughts := r.tokens()
		usage := object{
			"promptTokenCount": prompt, "candidatesTokenCount": completion - thoughts, "totalTokenCount": prompt + completion,
			"cachedContentTokenCount": cached,
		}
		if thoughts > 0 {
			usage["thoughtsTokenCount"] = thoughts
		}
		out["usageMetadata"] = usage
	}
	return out
}

func (generate) thoughts(r *reply) (parts []any) {
	if r.think {
		parts = append(parts, object{"text": thought, "thought": true})
	}
	return parts
}

func (generate) calls(r *reply) []any {
	return []any{object{"functionCall": object{"name": r.tool, "args": json.RawMessage(r.arguments())}}}
}

func (d generate) whole(r *reply) any {
	parts := d.thoughts(r)
	if r.call {
		parts = append(parts, d.calls(r)...)
	} else {
		parts = append(parts, object{"text": r.text()})
	}
	return d.response(r, parts, "STOP", true)
}

func (generate) contentType() string { return "text/event-stream" }

func (d generate) events(r *reply) (list [][]byte) {
	if r.think {
		list = append(list, event(d.response(r, d.thoughts(r), "", false)))
	}
	for i, word := range r.words {
		reason := ""
		if i < len(r.words)-1 {
			word += " "
		} else if !r.noEnd {
			reason = "STOP"
		}
		list = append(list, event(d.response(r, []any{object{"text": word}}, reason, reason != "")))
	}
	if r.call {
		list = append(list, event(d.response(r, d.calls(r), "STOP", true)))
	}
	return list
}

func (generate) fail(status int, kind, text string) any {
	if kind == "" {
		kind = map[int]string{400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND", 429: "RESOURCE_EXHAUSTED", 503: "UNAVAILABLE"}[status]
	}
	if kind == "" {
		kind = "INTERNAL"
	}
	return object{"error": object{"code": status, "message": text, "status": kind}}
}

func (d generate) broken() []byte { return event(d.fail(503, "", "scripted")) }
func (generate) garbled() []byte  { return []byte("data: {\"candidates\":[{\n\n") }

// predict is Vertex's protocol for embeddings.
type predict struct{ generate }

func (predict) ask(path string, body []byte) (q question, err error) {
	var in struct{ Instances []struct{ Content string } }
	if err := json.Unmarshal(body, &in); err != nil || len(in.Instances) == 0 {
		return q, errors.New("instances are missing")
	}
	return question{model: modelOf(path), inputs: len(in.Instances)}, nil
}

func (predict) whole(r *reply) any {
	list := make([]any, r.inputs)
	for n := range list {
		list[n] = object{"embeddings": object{"values": vector(n), "statistics": object{"token_count": 7, "truncated": false}}}
	}
	return object{"predictions": list}
}
