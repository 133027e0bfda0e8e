package drivers

import (
	"slices"

	"github.com/gosix/gosix/pkg/drivers/protocol"
	"github.com/gosix/gosix/pkg/jsonedit"
)

// body is the body of the call with the instance's members spliced in (spec/06 §A5.3). What
// is not named keeps its bytes.
func (s Shape) body(c *Call) ([][]byte, error) {
	i, doc := c.Instance, c.Body
	whole := append(c.room.segments[:0], doc.Bytes())
	c.room.segments = whole[:0]
	if doc.Kind() != jsonedit.Object {
		return whole, nil
	}
	edits := c.room.edits[:0]
	if i.Usage && c.Target == protocol.OpenAIChat && streams(doc) {
		edits = append(edits, includeUsage)
	}
	for n := range i.Options {
		o := &i.Options[n]
		if at := index(edits, o.Name); at >= 0 {
			edits[at] = *o
		} else {
			edits = append(edits, *o)
		}
	}
	var err error
	if i.MaxTokens != nil {
		if edits, err = s.limit(edits, c, i.MaxTokens); err != nil {
			return nil, err
		}
	}
	if patch := i.Bodies[c.Target]; patch != nil {
		if edits, err = fill(edits, doc, patch, i.Force); err != nil {
			return nil, err
		}
	}
	switch c.Target {
	case protocol.BedrockConverse, protocol.GeminiGenerate:
		edits = remove(remove(edits, doc, "model"), doc, "stream") // they are in the path
	case protocol.VertexPredict:
		edits = remove(edits, doc, "model")
	}
	if s.NoModel {
		edits = remove(edits, doc, "model")
	}
	if len(edits) == 0 {
		return whole, nil
	}
	segments := doc.Splice(c.room.segments, edits)
	c.room.segments, c.room.edits = segments[:0], edits[:0]
	return segments, nil
}

// limit sets the member that limits the answer, which every protocol calls otherwise;
// embeddings have none.
func (s Shape) limit(edits []jsonedit.Edit, c *Call, tokens []byte) ([]jsonedit.Edit, error) {
	switch c.Target {
	case protocol.OpenAIChat:
		if s.ChatLimit == "" || s.ChatLimit == "max_tokens" {
			return set(edits, "max_tokens", tokens), nil
		}
		return remove(set(edits, s.ChatLimit, tokens), c.Body, "max_tokens"), nil
	case protocol.OpenAIResponses:
		return set(edits, "max_output_tokens", tokens), nil
	case protocol.AnthropicMessages:
		return set(edits, "max_tokens", tokens), nil
	case protocol.BedrockConverse:
		return setInside(edits, c.Body, "inferenceConfig", "maxTokens", tokens)
	case protocol.GeminiGenerate:
		return setInside(edits, c.Body, "generationConfig", "maxOutputTokens", tokens)
	}
	return edits, nil
}

// setInside sets a member of the object called name.
func setInside(edits []jsonedit.Edit, doc *jsonedit.Doc, name, member string, value []byte) ([]jsonedit.Edit, error) {
	object, kind, _ := doc.Get(name)
	if n := index(edits, name); n >= 0 {
		object = edits[n].Value
		kind = kindOf(object)
	}
	if kind != jsonedit.Object {
		object = []byte("{}")
	}
	object, err := jsonedit.SetPath(object, []string{member}, value)
	return set(edits, name, object), err
}

var includeUsage = jsonedit.NewEdit("stream_options", []byte(`{"include_usage":true}`))

// streams reports whether a body asks for a stream in the reference's eyes, to which
// whatever is neither false nor null is true (recorded).
func streams(doc *jsonedit.Doc) bool {
	raw, kind, ok := doc.Get("stream")
	return ok && kind != jsonedit.Null && (kind != jsonedit.Bool || raw[0] == 't')
}

// set adds an edit, or replaces the one of that name.
func set(edits []jsonedit.Edit, name string, value []byte) []jsonedit.Edit {
	if n := index(edits, name); n >= 0 {
		edits[n].Value = value
		return edits
	}
	return append(edits, jsonedit.Edit{Name: name, Value: value})
}

// remove takes a member out, whether the client or an edit put it in. Where neither did
// nothing is edited, so that the body stays as it came.
func remove(edits []jsonedit.Edit, doc *jsonedit.Doc, name string) []jsonedit.Edit {
	if doc.Has(name) {
		return set(edits, name, nil)
	}
	if n := index(edits, name); n >= 0 {
		return slices.Delete(edits, n, n+1)
	}
	return edits
}

func index(edits []jsonedit.Edit, name string) int {
	for n := range edits {
		if edits[n].Name == name {
			return n
		}
	}
	return -1
}

// fill adds the edits of a configured body: objects are filled member by member; anything
// else is set where it is absent, or always when forced.
func fill(edits []jsonedit.Edit, doc *jsonedit.Doc, patch []byte, force bool) ([]jsonedit.Edit, error) {
	err := jsonedit.Members(patch, func(name string, value []byte, kind jsonedit.Kind) error {
		before, was, there := doc.Get(name)
		if n := index(edits, name); n >= 0 {
			before = edits[n].Value
			was, there = kindOf(before), before != nil
		}
		switch {
		case there && kind == jsonedit.Object && was == jsonedit.Object:
			inner, err := filled(before, value, force)
			if err != nil {
				return err
			}
			edits = set(edits, name, inner)
		case !there || force:
			edits = set(edits, name, value)
		}
		return nil
	})
	return edits, err
}

func filled(object, patch []byte, force bool) ([]byte, error) {
	doc, err := jsonedit.IndexTrusted(object)
	if err != nil {
		return nil, err
	}
	edits, err := fill(nil, doc, patch, force)
	if err != nil {
		return nil, err
	}
	return jsonedit.Join(doc.Splice(nil, edits)), nil
}

func kindOf(raw []byte) jsonedit.Kind {
	if len(raw) > 0 && raw[0] == '{' {
		return jsonedit.Object
	}
	return jsonedit.Invalid
}
