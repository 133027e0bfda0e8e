package variable

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"mime"
	"mime/multipart"
	"net/url"
	"strings"

	"github.com/theory/jsonpath"

	"github.com/gosix/gosix/pkg/exchange"
)

const defaultPostLimit = 64 << 20

// postArg reads an argument of a form body (post_arg_NAME).
func postArg(name string) (Getter, bool) {
	return func(x *exchange.Exchange) Value {
		media, _, _ := mime.ParseMediaType(x.Request.Header.Get("Content-Type"))
		if media != "application/x-www-form-urlencoded" {
			return Value{}
		}
		return postMember(x, name)
	}, true
}

// postPath reads a member of a JSON, form or multipart body by a dotted path, or by
// JSONPath when the path has a wildcard, an index or a descent, which gives a list.
func postPath(path string) (Getter, bool) {
	if strings.ContainsAny(path, "[*") || strings.Contains(path, "..") {
		query, err := jsonpath.Parse("$." + path)
		if strings.HasPrefix(path, "[") || strings.HasPrefix(path, ".") {
			query, err = jsonpath.Parse("$" + path)
		}
		if err != nil {
			return nil, false
		}
		return func(x *exchange.Exchange) Value {
			found := query.Select(postBody(x))
			if len(found) == 0 {
				return Value{}
			}
			list := make([]Value, len(found))
			for i, v := range found {
				list[i] = valueOf(v)
			}
			return List(list)
		}, true
	}
	return func(x *exchange.Exchange) Value { return postMember(x, path) }, true
}

func postMember(x *exchange.Exchange, path string) Value {
	v := postBody(x)
	if object, ok := v.(map[string]any); ok {
		// A form's name may hold dots.
		if whole, ok := object[path]; ok {
			return valueOf(whole)
		}
	}
	for rest := path; rest != ""; {
		var step string
		step, rest, _ = strings.Cut(rest, ".")
		object, ok := v.(map[string]any)
		if !ok {
			return Value{}
		}
		if v, ok = object[step]; !ok {
			return Value{}
		}
	}
	return valueOf(v)
}

// postBody decodes the body once per request, by its content type; nil if it cannot be read.
func postBody(x *exchange.Exchange) any {
	limit := x.Request.PostLimit
	if limit == 0 {
		limit = defaultPostLimit
	}
	kind := x.Request.Header.Get("Content-Type")
	v, err := x.Request.Body.Memo(limit, func(p []byte) any { return decoded{parsePost(kind, p)} })
	if err != nil {
		return nil
	}
	d, _ := v.(decoded)
	return d.value
}

// decoded keeps a body that decodes to nil from being decoded again.
type decoded struct{ value any }

func parsePost(kind string, p []byte) any {
	media, params, _ := mime.ParseMediaType(kind)
	switch {
	case media == "application/x-www-form-urlencoded":
		form, err := url.ParseQuery(string(p))
		if err != nil && len(form) == 0 {
			return nil
		}
		return firsts(form)
	case media == "multipart/form-data":
		form := map[string]any{}
		parts := multipart.NewReader(bytes.NewReader(p), params["boundary"])
		for {
			part, err := parts.NextPart()
			if err != nil {
				return form
			}
			text, err := io.ReadAll(part)
			if err != nil {
				return form
			}
			if _, twice := form[part.FormName()]; !twice {
				form[part.FormName()] = string(text)
			}
		}
	case media == "application/json" || media == "" || strings.HasSuffix(media, "+json"):
		var v any
		if json.Unmarshal(p, &v) != nil {
			return nil
		}
		return v
	}
	return nil
}

func firsts(form url.Values) map[string]any {
	m := make(map[string]any, len(form))
	for name, values := range form {
		if len(values) > 0 {
			m[name] = values[0]
		}
	}
	return m
}

// valueOf turns a decoded JSON value into a Value; objects have none.
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
	}
	return Value{}
}

func basicAuth(header string) (user, password string, ok bool) {
	scheme, text, _ := strings.Cut(header, " ")
	if !strings.EqualFold(scheme, "Basic") {
		return "", "", false
	}
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return "", "", false
	}
	return strings.Cut(string(raw), ":")
}
