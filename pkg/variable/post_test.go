package variable_test

import (
	"io"
	"strings"
	"testing"

	"github.com/gosix/gosix/pkg/exchange"
	"github.com/gosix/gosix/pkg/variable"
)

const (
	jsonType = "application/json"
	formType = "application/x-www-form-urlencoded"
	partType = `multipart/form-data; boundary=b`
)

const parts = "--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nm1\r\n" +
	"--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nm2\r\n" +
	"--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\ncontent\r\n" +
	"--b\r\nContent-Disposition: form-data; name=\"a.b\"\r\n\r\nc\r\n--b--\r\n"

func post(contentType, body string) *exchange.Exchange {
	x := request()
	if contentType != "" {
		x.Request.Header.Add("Content-Type", contentType)
	}
	// An unknown length, as of a chunked body.
	x.Request.Body.SetSource(strings.NewReader(body), -1)
	return x
}

func TestMembersOfBodies(t *testing.T) {
	for _, tt := range []struct{ name, contentType, body, read, want string }{
		{"a form argument", formType, "n=1", "post_arg_n", "1"},
		{"a form argument with parameters behind the type", formType + "; charset=utf-8", "n=1", "post_arg_n", "1"},
		{"a form argument with the type in capitals", strings.ToUpper(formType), "n=1", "post_arg_n", "1"},
		{"a form argument is decoded", formType, "a=0&n=a+%26", "post_arg_n", "a &"},
		{"a form argument that occurs twice has its first value", formType, "n=1&n=2", "post_arg_n", "1"},
		{"a form argument of another type is absent", "text/plain", "n=1", "post_arg_n", absent},
		{"a form argument of no type is absent", "", "n=1", "post_arg_n", absent},
		{"a form argument of JSON is absent", jsonType, `{"n":"1"}`, "post_arg_n", absent},

		{"a member of a form", formType, "model=m1", "post_arg.model", "m1"},
		{"a member of a form with a dot in its name", formType, "a.b=c", "post_arg.a.b", "c"},
		{"a member of a form that is not there", formType, "a=c", "post_arg.a.b", absent},
		{"a member of a form by JSONPath", formType, "n=%31&n=2", "post_arg.[*]", "1"},
		{"a member of a multipart body, the first of two", partType, parts, "post_arg.model", "m1"},
		{"a member of a multipart body with a dot in its name", partType, parts, "post_arg.a.b", "c"},
		{"a member of a multipart body by JSONPath", partType, parts, "post_arg.['model']", "m1"},
		{"a file of a multipart body", partType, parts, "post_arg.file", absent},
		{"a multipart body without a boundary", "multipart/form-data", parts, "post_arg.model", absent},
		{"a multipart body that is cut", partType, parts[:40], "post_arg.model", absent},
		{"a member of text", "text/plain", `{"model":"m1"}`, "post_arg.model", absent},

		{"a member of JSON", jsonType, `{"model":"m1"}`, "post_arg.model", "m1"},
		{"a member of JSON with a name of one letter", jsonType, `{"n":"1"}`, "post_arg.n", "1"},
		{"a member of JSON without a type", "", `{"model":"m1"}`, "post_arg.model", "m1"},
		{"a member of a JSON dialect", "application/cloudevents+json", `{"model":"m1"}`, "post_arg.model", "m1"},
		{"a member of JSON in capitals", jsonType, `{"Model":"m1"}`, "post_arg.model", absent},
		{"a nested member", jsonType, `{"a":{"b":{"c":"d"}}}`, "post_arg.a.b.c", "d"},
		{"a nested member of what is no object", jsonType, `{"a":"b"}`, "post_arg.a.b", absent},
		{"a nested member that is not there", jsonType, `{"a":{}}`, "post_arg.a.b", absent},
		{"a name with a dot is not a path", jsonType, `{"a.b":"c"}`, "post_arg.a.b", absent},
		{"an escaped name", jsonType, `{"mo\u0064el":"m1"}`, "post_arg.model", "m1"},
		{"a number", jsonType, `{"n":4.5}`, "post_arg.n", "4.5"},
		{"a boolean", jsonType, `{"n":true}`, "post_arg.n", "true"},
		{"null", jsonType, `{"n":null}`, "post_arg.n", absent},
		{"an object", jsonType, `{"n":{}}`, "post_arg.n", ""},
		{"a list", jsonType, `{"n":["a",1,{},null]}`, "post_arg.n", "a, 1, , "},
		{"broken JSON", jsonType, `{nope`, "post_arg.n", absent},
		{"trailing data", jsonType, `{"n":1} x`, "post_arg.n", absent},
		{"a member that occurs twice is nobody's", jsonType, `{"model":"a","model":"b"}`, "post_arg.model", absent},
		{"any member that occurs twice spoils the body", jsonType, `{"model":"a","x":{"y":1,"y":2}}`, "post_arg.model", absent},
		{"bytes that are not UTF-8 spoil the body", jsonType, "{\"model\":\"\xff\"}", "post_arg.model", absent},
		{"a body that is no object", jsonType, `["n"]`, "post_arg.n", absent},
		{"no body", jsonType, ``, "post_arg.n", absent},

		{"JSONPath over a list", jsonType, `{"messages":[{"role":"user"},{"role":"system"}]}`, "post_arg.messages[*].role", "user, system"},
		{"JSONPath with an index", jsonType, `{"messages":[{"role":"user"},{"role":"system"}]}`, "post_arg.messages[1].role", "system"},
		{"JSONPath that descends", jsonType, `{"a":{"role":"x"},"b":[{"role":"y"}]}`, "post_arg.b..role", "y"},
		{"JSONPath that descends from the top", jsonType, `{"b":[{"role":"y"}]}`, "post_arg...role", "y"},
		{"JSONPath that begins with a bracket", jsonType, `["a","b"]`, "post_arg.[1]", "b"},
		{"JSONPath with a filter", jsonType, `{"m":[{"r":"s","c":1},{"r":"u","c":2}]}`, `post_arg.m[?@.r=="u"].c`, "2"},
		{"JSONPath that finds nothing", jsonType, `{"messages":[]}`, "post_arg.messages[*].role", absent},
		{"JSONPath over broken JSON", jsonType, `{nope`, "post_arg.messages[*].role", absent},
		{"JSONPath over members that occur twice", jsonType, `{"a":[1],"a":[2]}`, "post_arg.a[0]", absent},
		{"JSONPath over text", "text/plain", `{"a":[1]}`, "post_arg.a[0]", absent},
	} {
		t.Run(tt.name, func(t *testing.T) {
			x := post(tt.contentType, tt.body)
			check(t, x, tt.read, tt.want)
			check(t, x, tt.read, tt.want) // what is kept of the first reading
			if got, err := io.ReadAll(x.Request.Body.Reader()); err != nil || string(got) != tt.body {
				t.Errorf("the body that goes on: got %q, %v, want %q", got, err, tt.body)
			}
		})
	}
}

func TestMembersKeepTheirTypes(t *testing.T) {
	x := post(jsonType, `{"s":"1","n":1,"b":true,"l":[1],"o":{}}`)
	if !value(t, x, "post_arg.s").IsText() || !value(t, x, "post_arg.n").IsNumber() || !value(t, x, "post_arg.b").True() ||
		!value(t, x, "post_arg.b").IsBool() || !value(t, x, "post_arg.l").IsList() || value(t, x, "post_arg.o").IsNil() {
		t.Error("a member lost its type")
	}
}

func TestBodiesAboveTheLimitAreAbsentAndGoOn(t *testing.T) {
	const body = `{"model":"m1","more":"0123456789"}`
	for _, tt := range []struct {
		name   string
		limit  int64
		length int64
		want   string
	}{
		{"a body below the limit", 100, -1, "m1"},
		{"a body at the limit", int64(len(body)), -1, "m1"},
		{"a body above the limit", 10, -1, absent},
		{"a body that announces more than the limit", 10, int64(len(body)), absent},
		{"a body without a limit", -1, -1, "m1"},
		{"a body under the limit that is always there", 0, -1, "m1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, name := range []string{"post_arg.model", "post_arg.['model']"} {
				x := post(jsonType, "")
				x.Request.PostLimit = tt.limit
				x.Request.Body.SetSource(strings.NewReader(body), tt.length)
				check(t, x, name, tt.want)
				if got, err := io.ReadAll(x.Request.Body.Reader()); err != nil || string(got) != body {
					t.Errorf("the body that goes on: got %q, %v", got, err)
				}
			}
		})
	}
}

func TestAReplacedBodyIsReadAnew(t *testing.T) {
	x := post(jsonType, `{"a":["1"]}`)
	check(t, x, "post_arg.a[0]", "1")
	check(t, x, "post_arg.a", "1")
	x.Request.Body.Set([]byte(`{"a":["2"]}`))
	check(t, x, "post_arg.a[0]", "2")
	check(t, x, "post_arg.a", "2")
}

func FuzzPostPath(f *testing.F) {
	f.Add("a.b", `{"a":{"b":1}}`)
	f.Add("a[*].b", `{"a":[{"b":1}]}`)
	f.Add("..b", `[]`)
	f.Add(".", `{}`)
	f.Fuzz(func(_ *testing.T, path, body string) {
		get, ok := variable.Compile("post_arg." + path)
		if !ok {
			return
		}
		for _, contentType := range []string{jsonType, formType, partType} {
			_ = get(post(contentType, body)).String()
		}
	})
}
