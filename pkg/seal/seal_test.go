package seal

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	oldKey = "0123456789abcdef"
	newKey = "0123456789abcdef0123456789abcdef"
)

func ring(t *testing.T, format string, keys ...string) *Ring {
	t.Helper()
	r, err := New(keys, format)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRing(t *testing.T) {
	for _, format := range []string{GCM, CBC} {
		t.Run(format+" opens what it sealed, with later keys too", func(t *testing.T) {
			sealed := ring(t, format, oldKey).Seal("routes/1", "Bearer t")
			if strings.Contains(sealed, "Bearer") {
				t.Fatalf("sealed value %q shows its text", sealed)
			}
			if got := ring(t, format, newKey, oldKey).Open("routes/1", sealed); got != "Bearer t" {
				t.Errorf("got %q, want %q", got, "Bearer t")
			}
			if got := ring(t, format, newKey).Open("routes/1", sealed); got != sealed {
				t.Errorf("another key opened it as %q", got)
			}
		})
	}
	t.Run("a gcm value does not open under another item's key", func(t *testing.T) {
		r := ring(t, GCM, oldKey)
		sealed := r.Seal("routes/1", "x")
		if got := r.Open("routes/2", sealed); got != sealed {
			t.Errorf("opened as %q", got)
		}
	})
	t.Run("two sealings of one text differ under gcm", func(t *testing.T) {
		r := ring(t, GCM, oldKey)
		if a, b := r.Seal("k", "x"), r.Seal("k", "x"); a == b {
			t.Errorf("both are %q", a)
		}
	})
	t.Run("a text that looks sealed is sealed and comes back", func(t *testing.T) {
		r := ring(t, GCM, oldKey)
		if got := r.Open("k", r.Seal("k", prefix+"AAAA")); got != prefix+"AAAA" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("plain text is opened as itself", func(t *testing.T) {
		r := ring(t, GCM, oldKey)
		for _, text := range []string{"", "plain", "MDEyMzQ1Njc4OWFiY2RlZg==", prefix, prefix + "!"} {
			if got := r.Open("k", text); got != text {
				t.Errorf("%q became %q", text, got)
			}
		}
	})
	t.Run("no keys change nothing", func(t *testing.T) {
		r := ring(t, GCM)
		if got := r.Open("k", r.Seal("k", "x")); got != "x" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("a key of another length is refused", func(t *testing.T) {
		if _, err := New([]string{"short"}, GCM); err == nil || err.Error() != "keyring[0]: 5 bytes, must be 16 or 32" {
			t.Errorf("got %v", err)
		}
	})
}

// The value was made with the openssl command line from key and IV 0123456789abcdef.
func TestCBCIsTheReferencesFormat(t *testing.T) {
	const sealed = "XclZiHC8bxiJND5L2UTUWg=="
	r := ring(t, CBC, oldKey)
	if got := r.Seal("any", "Bearer token"); got != sealed {
		t.Errorf("got %q, want %q", got, sealed)
	}
	if got := r.Open("other", sealed); got != "Bearer token" {
		t.Errorf("got %q", got)
	}
}

func TestMembers(t *testing.T) {
	upper := strings.ToUpper
	tests := map[string]struct{ doc, path, want string }{
		"a member at the top":                  {`{"a": "x", "b":1e3}`, "a", `{"a": "X", "b":1e3}`},
		"a member below":                       {`{"a":{"b":"x","c":"x"}}`, "a.b", `{"a":{"b":"X","c":"x"}}`},
		"a list of strings":                    {`{"a":["x",1,"y"]}`, "a", `{"a":["X",1,"Y"]}`},
		"an object of strings":                 {`{"a":{"h":"x","n":2}}`, "a", `{"a":{"h":"X","n":2}}`},
		"every element of an array on the way": {`{"l":[{"k":"x"},{"k":"y"},7]}`, "l.k", `{"l":[{"k":"X"},{"k":"Y"},7]}`},
		"what stands between elements stays":   {"{\"a\":[ \"x\" ,\n {\"k\": 1} ]}", "a", "{\"a\":[ \"X\" ,\n {\"k\": 1} ]}"},
		"an empty list":                        {`{"a":[ ]}`, "a", `{"a":[ ]}`},
		"what is absent is left alone":         {`{"a":1}`, "b.c", `{"a":1}`},
		"another shape is left alone":          {`{"a":5}`, "a.b", `{"a":5}`},
		"other bytes stay":                     {"{ \"n\" : 12345678901234567890 ,\n\"a\":\"x\"}", "a", "{ \"n\" : 12345678901234567890 ,\n\"a\":\"X\"}"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := Members([]byte(tt.doc), tt.path, upper)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, string(got)); diff != "" {
				t.Error(diff)
			}
			if tt.want != tt.doc && !MayLead([]byte(tt.doc), tt.path) {
				t.Error("the path is said to lead to nothing")
			}
		})
	}
}

func TestMayLead(t *testing.T) {
	for _, tt := range []struct {
		doc, path string
		want      bool
	}{
		{`{"a":{"b":"x"}}`, "a.b", true},
		{`{"a":{"bb":"x"},"c":"b"}`, "a.bbb", false},
		{`{"a":{"abb":"x"}}`, "a.b", false},
		{`{"a":{"\u0062":"x"}}`, "a.b", true},
		{`[{"a":"x"}]`, "b", true}, // lists are not looked at
		{` {"a":"x"}`, "b", false},
	} {
		if got := MayLead([]byte(tt.doc), tt.path); got != tt.want {
			t.Errorf("%s in %s: got %v", tt.path, tt.doc, got)
		}
	}
}

func TestADocumentWithoutChangesIsNotCopied(t *testing.T) {
	for _, doc := range []string{`{"a":{"b":"X"},"c":1}`, `{"a":[ {"b":"X"} , 2 ]}`, `{"a":{}}`, `[]`} {
		raw := []byte(doc)
		got, err := Members(raw, "a.b", strings.ToUpper)
		if err != nil || string(got) != doc || &got[0] != &raw[0] {
			t.Errorf("%s became %s, %v, or a copy", doc, got, err)
		}
	}
}
