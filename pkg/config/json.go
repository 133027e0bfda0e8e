package config

import (
	"encoding/json"
	"errors"
)

// ErrYAML is a text that is no YAML, in the reference's words.
var ErrYAML = errors.New("invalid yaml request body")

// JSON returns the value of a YAML text as JSON, nil if the text has none. Members come in
// the order of their names. What JSON cannot say, a name that stands in an object twice and
// more than depth levels are errors; so are aliases that unfold into too much.
func JSON(text []byte, depth int) (json.RawMessage, error) {
	l := newLoader("yaml", nil, depth)
	root, err := l.document(text)
	if err != nil {
		return nil, ErrYAML
	}
	if root == nil {
		return nil, nil
	}
	value := l.plain(root, "body", 1)
	if err := l.err(); err != nil {
		return nil, err
	}
	return json.Marshal(value)
}
