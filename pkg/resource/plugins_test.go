package resource

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPluginLists(t *testing.T) {
	tests := map[string]struct {
		doc  string
		want PluginList
		fail string
	}{
		"both kinds":      {`[{"name":"a"},{"name":"b","stream":true},{"name":"c","stream":false}]`, PluginList{HTTP: []string{"a", "c"}, Stream: []string{"b"}}, ""},
		"none":            {`[]`, PluginList{HTTP: []string{}, Stream: []string{}}, ""},
		"none, otherwise": {`{}`, PluginList{HTTP: []string{}, Stream: []string{}}, ""},
		"no list":         {`"a"`, PluginList{}, `invalid configuration: wrong type: expected array, got string`},
		"no name":         {`[{"stream":true}]`, PluginList{}, `invalid configuration: failed to validate item 1: property "name" is required`},
		"no JSON":         {`init_dir`, PluginList{}, `invalid character 'i' looking for beginning of value`},
	}
	for name, tt := range tests {
		got, err := DecodePluginList([]byte(tt.doc))
		if diff := cmp.Diff(tt.want, got); diff != "" || (err == nil) != (tt.fail == "") || err != nil && err.Error() != tt.fail {
			t.Errorf("%s: %v, want %s (-want +got):\n%s", name, err, tt.fail, diff)
		}
		if err != nil {
			continue
		}
		doc, err := got.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if again, err := DecodePluginList(doc); err != nil || !again.Equal(got) {
			t.Errorf("%s: %s %v", name, doc, err)
		}
	}
}

func TestPluginListsAreEqualInAnyOrder(t *testing.T) {
	l := PluginList{HTTP: []string{"a", "b"}, Stream: []string{"c"}}
	for _, other := range []PluginList{{HTTP: []string{"a"}, Stream: []string{"c"}}, {HTTP: []string{"a", "b", "c"}}, {HTTP: []string{"a", "b"}, Stream: []string{"d"}}} {
		if l.Equal(other) {
			t.Errorf("%v is equal to %v", other, l)
		}
	}
	if !l.Equal(PluginList{HTTP: []string{"b", "a", "b"}, Stream: []string{"c"}}) {
		t.Error("the order counts")
	}
}
