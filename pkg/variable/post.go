package variable

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"strconv"
	"strings"

	"github.com/theory/jsonpath"

	"github.com/gosix/gosix/pkg/exchange"
	"github.com/gosix/gosix/pkg/jsonedit"
)

const (
	postPrefix       = "post_arg."
	defaultPostLimit = 64 << 20
)

// strict is how a body is read that decides where a request goes (spec/00 7): one that
// two readers could understand differently has no members at all.
var strict = jsonedit.Options{MaxDepth: 64, Duplicates: true}

// media is what a body is, as far as its members can be read.
type media uint8

const (
	other media = iota
	jsonBody
	formBody
	multipartBody
)

// mediaOf reads the content type. A body without one is taken for JSON.
func mediaOf(contentType string) media {
	kind, _, _ := strings.Cut(contentType, ";")
	kind = strings.Trim(kind, " \t")
	switch {
	case kind == "" || strings.EqualFold(kind, "application/json"):
		return jsonBody
	case strings.EqualFold(kind, "application/x-www-form-urlencoded"):
		return formBody
	case strings.EqualFold(kind, "multipart/form-data"):
		return multipartBody
	case len(kind) > 5 && strings.EqualFold(kind[len(kind)-5:], "+json"):
		return jsonBody
	}
	return other
}

// postForm reads an argument of a form body (post_arg_NAME).
func postForm(name string) (Getter, error) {
	return func(x *exchange.Exchange) Value {
		if mediaOf(x.Request.Header.Get("Content-Type")) != formBody {
			return Value{}
		}
		return QueryValue(formText(x), name)
	}, nil
}

// postPath reads a member of a JSON, form or multipart body by a dotted path, or by
// JSONPath when the path has a wildcard, an index or a descent, which gives a list.
func postPath(path string) (Getter, error) {
	if strings.ContainsAny(path, "[*") || strings.Contains(path, "..") {
		return postQuery(path)
	}
	first, rest, _ := strings.Cut(path, ".")
	return func(x *exchange.Exchange) Value {
		if x.Request.Body.Length() == 0 {
			return Value{}
		}
		switch contentType := x.Request.Header.Get("Content-Type"); mediaOf(contentType) {
		case other:
			misread(x, errUnsupported(contentType))
		case jsonBody:
			return jsonMember(x, first, rest)
		case formBody:
			// Forms are flat: dots are part of the name.
			return QueryValue(formText(x), path)
		case multipartBody:
			if text, ok := multipartFields(x, contentType)[path].(string); ok {
				return Text(text)
			}
		}
		return Value{}
	}, nil
}

func errUnsupported(contentType string) error {
	return fmt.Errorf("unsupported content-type: %s, supported types are: application/json, application/x-www-form-urlencoded, multipart/form-data", contentType)
}

// jsonError words why a body cannot be read as JSON. One that does not say what it is was
// only taken for JSON.
func jsonError(x *exchange.Exchange, err error) error {
	contentType := x.Request.Header.Get("Content-Type")
	var large *exchange.TooLargeError
	switch {
	case errors.As(err, &large):
		return fmt.Errorf("could not get body: %w", err)
	case contentType == "":
		return errUnsupported(contentType)
	}
	return fmt.Errorf("could not parse JSON request body: %w", err)
}

func postQuery(path string) (Getter, error) {
	root := "$."
	if path[0] == '[' || path[0] == '.' {
		root = "$"
	}
	query, err := jsonpath.Parse(root + path)
	if err != nil {
		return nil, fmt.Errorf("invalid expression %q: %w", root+path, err)
	}
	return func(x *exchange.Exchange) Value {
		if x.Request.Body.Length() == 0 {
			return Value{}
		}
		found := query.Select(postTree(x))
		if len(found) == 0 {
			return Value{}
		}
		return valueOf([]any(found))
	}, nil
}

func postLimit(x *exchange.Exchange) int64 {
	switch limit := x.Request.PostLimit; {
	case limit == 0:
		return defaultPostLimit
	case limit < 0:
		return 0
	default:
		return limit
	}
}

// jsonMember reads one member through the index that all readers of the body share.
func jsonMember(x *exchange.Exchange, first, rest string) Value {
	doc, err := x.Request.Body.JSON(postLimit(x), strict)
	if err != nil {
		misread(x, jsonError(x, err))
		return Value{}
	}
	raw, kind, ok := doc.Get(first)
	for ok && rest != "" {
		var step string
		step, rest, _ = strings.Cut(rest, ".")
		if kind != jsonedit.Object {
			return Value{}
		}
		raw, kind, ok = memberOf(raw, step)
	}
	if !ok {
		return Value{}
	}
	return rawValue(raw, kind)
}

func memberOf(object []byte, name string) (raw []byte, kind jsonedit.Kind, ok bool) {
	_ = jsonedit.Members(object, func(n string, r []byte, k jsonedit.Kind) error {
		if n == name {
			raw, kind, ok = r, k, true
		}
		return nil
	})
	return raw, kind, ok
}

// rawValue turns a JSON value that is known to be valid into a Value.
func rawValue(raw []byte, kind jsonedit.Kind) Value {
	switch kind {
	case jsonedit.String:
		s, err := jsonedit.Unquote(raw)
		if err != nil {
			return Value{}
		}
		return Text(s)
	case jsonedit.Number:
		// Out of range is infinite, which is what it compares as.
		f, _ := strconv.ParseFloat(string(raw), 64)
		return Num(f)
	case jsonedit.Bool:
		return Boolean(raw[0] == 't')
	case jsonedit.Array:
		list := []Value{}
		_ = jsonedit.Elements(raw, func(_ int, e []byte, k jsonedit.Kind) error {
			list = append(list, rawValue(e, k))
			return nil
		})
		return List(list)
	case jsonedit.Object:
		return Object()
	}
	return Value{}
}

// FromJSON returns the value that a JSON text stands for: nothing for null and for what
// is not JSON.
func FromJSON(raw []byte) Value {
	raw = bytes.Trim(raw, " \t\r\n")
	if len(raw) == 0 || jsonedit.Check(raw, jsonedit.Options{}) != nil {
		return Value{}
	}
	return rawValue(raw, kindOf(raw[0]))
}

func kindOf(first byte) jsonedit.Kind {
	switch first {
	case '"':
		return jsonedit.String
	case '{':
		return jsonedit.Object
	case '[':
		return jsonedit.Array
	case 't', 'f':
		return jsonedit.Bool
	case 'n':
		return jsonedit.Null
	}
	return jsonedit.Number
}

// formText is the form body as text, made once a request.
func formText(x *exchange.Exchange) string {
	form, err := x.Request.Body.Memo(postLimit(x), func(p []byte) any { return string(p) })
	if err != nil {
		return ""
	}
	text, _ := form.(string)
	return text
}

// multipartFields are the fields of a multipart body, without files; of several with one
// name the first. They are read once a request.
func multipartFields(x *exchange.Exchange, contentType string) map[string]any {
	form, err := x.Request.Body.Memo(postLimit(x), func(p []byte) any {
		_, params, err := mime.ParseMediaType(contentType)
		if err != nil {
			return map[string]any{}
		}
		return readParts(multipart.NewReader(bytes.NewReader(p), params["boundary"]))
	})
	if err != nil {
		return nil
	}
	m, _ := form.(map[string]any)
	return m
}

func readParts(parts *multipart.Reader) map[string]any {
	form := map[string]any{}
	for {
		part, err := parts.NextRawPart()
		if err != nil {
			return form
		}
		name := part.FormName()
		if _, twice := form[name]; twice || name == "" || part.FileName() != "" {
			continue
		}
		text, err := io.ReadAll(part)
		if err != nil {
			return form
		}
		form[name] = string(text)
	}
}

// decoded keeps a JSON body in the form JSONPath works on; nil if it cannot be read.
type decoded struct{ value any }

// postTree is the whole body decoded, for JSONPath.
func postTree(x *exchange.Exchange) any {
	contentType := x.Request.Header.Get("Content-Type")
	switch mediaOf(contentType) {
	case other:
		misread(x, errUnsupported(contentType))
	case jsonBody:
		memo, err := x.Request.Body.Memo(postLimit(x), func(p []byte) any {
			var v any
			err := jsonedit.Check(p, strict)
			if err == nil {
				err = json.Unmarshal(p, &v)
			}
			if err != nil {
				misread(x, jsonError(x, err))
				return decoded{}
			}
			return decoded{v}
		})
		if err != nil {
			misread(x, jsonError(x, err))
			return nil
		}
		d, _ := memo.(decoded)
		return d.value
	case formBody:
		form := map[string]any{}
		for text := formText(x); text != ""; {
			var pair string
			pair, text, _ = strings.Cut(text, "&")
			key, value, _ := strings.Cut(pair, "=")
			if key = unescape(key); form[key] == nil {
				form[key] = unescape(value)
			}
		}
		return form
	case multipartBody:
		return multipartFields(x, contentType)
	}
	return nil
}

// valueOf turns a decoded JSON value into a Value.
func valueOf(v any) Value {
	switch v := v.(type) {
	case string:
		return Text(v)
	case float64:
		return Num(v)
	case bool:
		return Boolean(v)
	case []any:
		list := make([]Value, len(v))
		for i, e := range v {
			list[i] = valueOf(e)
		}
		return List(list)
	case map[string]any:
		return Object()
	}
	return Value{}
}
