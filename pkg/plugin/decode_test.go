package plugin

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

type spoken struct{ word string }

func (s *spoken) UnmarshalJSON(p []byte) error {
	s.word = string(p)
	return nil
}

func TestDecode(t *testing.T) {
	type inner struct {
		Inner int `json:"inner"`
	}
	type conf struct {
		inner
		Name  string          `json:"name"`
		Count int             `json:"count"`
		Small int8            `json:"small"`
		Ratio float64         `json:"ratio"`
		Limit *int            `json:"limit"`
		List  []int           `json:"list"`
		Part  inner           `json:"part"`
		Map   map[string]int  `json:"map"`
		Raw   json.RawMessage `json:"raw"`
		Word  spoken          `json:"word"`
	}
	five := 5
	tests := map[string]struct {
		doc     string
		want    conf
		refused string
	}{
		"every member": {
			doc:  `{"inner":1,"name":"a","count":2,"ratio":1.5,"limit":5,"list":[1,2],"part":{"inner":3},"raw":{"A": 1.0},"word":[]}`,
			want: conf{inner: inner{1}, Name: "a", Count: 2, Ratio: 1.5, Limit: &five, List: []int{1, 2}, Part: inner{3}, Raw: json.RawMessage(`{"A": 1.0}`), Word: spoken{"[]"}},
		},
		"another letter case is another member":   {doc: `{"Name":"a","COUNT":2,"Part":{"inner":1}}`},
		"a member inside in another letter case":  {doc: `{"part":{"Inner":1}}`},
		"an escaped name is the same":             {doc: `{"n\u0061me":"a"}`, want: conf{Name: "a"}},
		"integers written as fractions":           {doc: `{"count":30000.0,"limit":5e0,"list":[1e1]}`, want: conf{Count: 30000, Limit: &five, List: []int{10}}},
		"all digits of an integer":                {doc: `{"count":9007199254740993}`, want: conf{Count: 9007199254740993}},
		"null leaves the zero value":              {doc: `{"name":null,"count":null,"limit":null,"list":null,"part":null}`},
		"null where the member reads itself":      {doc: `{"raw":null,"word":null}`, want: conf{Raw: json.RawMessage(`null`), Word: spoken{"null"}}},
		"an empty list stands for an object":      {doc: `{"part":[ ],"map":[]}`},
		"a list of something does not":            {doc: `{"part":[1]}`, refused: "a list where an object is expected"},
		"a fraction":                              {doc: `{"count":1.5}`, refused: "not a whole number"},
		"an integer out of range":                 {doc: `{"count":1e30}`, refused: "out of range"},
		"an integer out of its member's range":    {doc: `{"small":300}`, refused: "out of range"},
		"a name twice":                            {doc: `{"name":"a","name":"b"}`, refused: "duplicate"},
		"a name twice, of nothing that is read":   {doc: `{"x":1,"x":2}`, refused: "duplicate"},
		"a name twice in what is passed on":       {doc: `{"raw":{"x":1,"x":2}}`, refused: "duplicate"},
		"a text that is no UTF-8":                 {doc: "{\"name\":\"\xff\"}", refused: "UTF-8"},
		"a member of the wrong type":              {doc: `{"name":1}`, refused: "name"},
		"data behind the configuration":           {doc: `{} {}`, refused: "after top-level value"},
		"a surrogate of which there is only half": {doc: `{"name":"\ud800"}`, refused: "surrogate"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var got conf
			err := Decode([]byte(tt.doc), &got)
			if tt.refused != "" {
				if err == nil || !strings.Contains(err.Error(), tt.refused) {
					t.Errorf("got %+v, %v, want an error with %q", got, err, tt.refused)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(conf{}, inner{}, spoken{})); diff != "" {
				t.Error(diff)
			}
		})
	}
}
