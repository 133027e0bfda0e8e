package aiprompttemplate

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/gosix/gosix/pkg/jsonedit"
)

// template is a request with places to be filled. It is immutable.
type template struct{ parts []part }

// part is JSON text as it stands, or a place inside a JSON string.
type part struct {
	text  string
	field []step // of the request that is inserted; nil: text
	raw   bool   // without escaping what means something in HTML
}

// step is the name of a member, or the number of an element, counted from 1.
type step struct {
	name string
	n    int
}

// compile finds the places in a template, which is JSON: tags stand in its strings alone.
func compile(doc []byte) (*template, error) {
	t := &template{}
	for i := 0; i < len(doc); i++ {
		if doc[i] != '"' {
			t.add(string(doc[i]))
			continue
		}
		end := i + 1
		for ; end < len(doc) && doc[end] != '"'; end++ {
			if doc[end] == '\\' {
				end++
			}
		}
		text, err := jsonedit.Unquote(doc[i : end+1])
		if err != nil {
			return nil, err
		}
		t.add(`"`)
		if err := t.addText(text); err != nil {
			return nil, err
		}
		t.add(`"`)
		i = end
	}
	return t, nil
}

// add adds JSON text.
func (t *template) add(text string) {
	if n := len(t.parts); n > 0 && t.parts[n-1].field == nil {
		t.parts[n-1].text += text
		return
	}
	t.parts = append(t.parts, part{text: text})
}

// tags are what the reference's templates know, by their opening.
var tags = map[string]string{"{{": "}}", "{*": "*}", "{#": "#}", "{%": "%}", "{(": ")}", "{[": "]}"}

// addText adds what is between the quotes of a string. A tag that is not closed is text.
func (t *template) addText(text string) error {
	for {
		open := nextTag(text)
		if open < 0 {
			t.add(quoted(text))
			return nil
		}
		closing := tags[text[open:open+2]]
		length := strings.Index(text[open+2:], closing)
		tag := text[open : open+2+length+2]
		t.add(quoted(text[:open]))
		text = text[open+len(tag):]
		switch inner := strings.TrimSpace(tag[2 : len(tag)-2]); tag[1] {
		case '#': // a comment
		case '{', '*':
			field, ok := path(inner)
			if !ok {
				return fmt.Errorf("%s: only fields of the request can be inserted, such as {{ name }} or {{ user.name }}", tag)
			}
			t.parts = append(t.parts, part{field: field, raw: tag[1] == '*'})
		default:
			return fmt.Errorf("%s: lua and includes are not supported in templates", tag)
		}
	}
}

// nextTag is where a tag begins that is closed, -1 if there is none.
func nextTag(text string) int {
	for i := 0; i+2 <= len(text); i++ {
		if closing := tags[text[i:i+2]]; closing != "" && strings.Contains(text[i+2:], closing) {
			return i
		}
	}
	return -1
}

func quoted(text string) string {
	q := jsonedit.AppendQuote(nil, text)
	return string(q[1 : len(q)-1])
}

var (
	pathPattern = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]*(?:\.[A-Za-z_][A-Za-z0-9_-]*|\["[^"\\]+"\]|\['[^'\\]+'\]|\[[1-9][0-9]{0,5}\])*$`)
	stepPattern = regexp.MustCompile(`[A-Za-z_][A-Za-z0-9_-]*|\["[^"]+"\]|\['[^']+'\]|\[[0-9]+\]`)
)

// path reads a.b["c"][1]. The word context, which is the whole request there, may come first.
func path(text string) (steps []step, ok bool) {
	if !pathPattern.MatchString(text) {
		return nil, false
	}
	for _, s := range stepPattern.FindAllString(text, -1) {
		switch {
		case s[0] != '[':
			steps = append(steps, step{name: s})
		case s[1] == '"' || s[1] == '\'':
			steps = append(steps, step{name: s[2 : len(s)-2]})
		default:
			n, _ := strconv.Atoi(s[1 : len(s)-1])
			steps = append(steps, step{n: n})
		}
	}
	if len(steps) > 1 && steps[0].name == "context" && steps[1].n == 0 {
		steps = steps[1:]
	}
	return steps, true
}

// render fills a request in. What it inserts stays inside the string where its place is, so
// that the result is JSON whatever the request says.
func (t *template) render(request *jsonedit.Doc) ([]byte, error) {
	var out []byte
	for i := range t.parts {
		p := &t.parts[i]
		if p.field == nil {
			out = append(out, p.text...)
			continue
		}
		text, err := value(request, p.field)
		if err != nil {
			return nil, err
		}
		if !p.raw {
			text = html.Replace(text)
		}
		quoted := jsonedit.AppendQuote(nil, text)
		out = append(out, quoted[1:len(quoted)-1]...)
	}
	return out, nil
}

var html = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;", "'", "&#39;")

// value is the text of a field; empty if the request does not have it. What is neither text
// nor null is inserted as JSON.
func value(request *jsonedit.Doc, field []step) (string, error) {
	raw, _, _ := request.Get(field[0].name)
	for i, s := range field[1:] {
		below, err := member(raw, s)
		if err != nil {
			return "", fmt.Errorf("field %s: %s has nothing in it", named(field), named(field[:i+1]))
		}
		raw = below
	}
	switch {
	case raw == nil:
		return "", nil
	case raw[0] == '"':
		return jsonedit.Unquote(raw)
	case raw[0] == 'n':
		return "", nil
	}
	return string(raw), nil
}

// member is what a step leads to, nil if there is nothing; an error where there is nothing
// to step from.
func member(raw []byte, s step) (found []byte, err error) {
	if raw == nil {
		return nil, errNothing
	}
	if s.n > 0 {
		err = jsonedit.Elements(raw, func(i int, e []byte, _ jsonedit.Kind) error {
			if i+1 == s.n {
				found = e
			}
			return nil
		})
		return found, err
	}
	doc, err := jsonedit.IndexTrusted(raw)
	if err != nil {
		return nil, err
	}
	switch doc.Kind() {
	case jsonedit.Object:
		found, _, _ = doc.Get(s.name)
		return found, nil
	case jsonedit.Array:
		return nil, nil
	}
	return nil, errNothing
}

var errNothing = errors.New("there is nothing to step from")

func named(field []step) (text string) {
	for _, s := range field {
		switch {
		case s.n > 0:
			text += "[" + strconv.Itoa(s.n) + "]"
		case text == "":
			text = s.name
		default:
			text += "." + s.name
		}
	}
	return text
}
