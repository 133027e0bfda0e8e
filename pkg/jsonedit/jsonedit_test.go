package jsonedit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/gosix/gosix/internal/racetest"
)

// What the reference's parser says of text like this, word for word (spec/00 23), and of
// what only we refuse in the same style.
func TestErrorsAreTheReferencesWords(t *testing.T) {
	tests := map[string]struct{ text, want string }{
		"nothing at all":                          {``, "Expected value but found T_END at character 1"},
		"white space alone":                       {" \n", "Expected value but found T_END at character 3"},
		"an object that is not closed":            {`{`, "Expected object key string but found T_END at character 2"},
		"an array that is not closed":             {`["a"`, "Expected comma or array end but found T_END at character 5"},
		"an array that ends before its value":     {`[`, "Expected value but found T_END at character 2"},
		"a member without its value":              {`{"model":`, "Expected value but found T_END at character 10"},
		"a member without anything":               {`{"model"`, "Expected colon but found T_END at character 9"},
		"an object that ends after a value":       {`{"a":1`, "Expected comma or object end but found T_END at character 7"},
		"a bare word":                             {`otter`, "Expected value but found invalid token at character 1"},
		"a word in capitals":                      {`[True]`, "Expected value but found invalid token at character 2"},
		"a word that goes on":                     {`truest`, "Expected the end but found invalid token at character 5"},
		"a word that is cut":                      {`[tru`, "Expected value but found invalid token at character 2"},
		"single quotes":                           {`{'a':1}`, "Expected object key string but found invalid token at character 2"},
		"a comma before the end of an object":     {`{"a":1,}`, "Expected object key string but found T_OBJ_END at character 8"},
		"a comma before the end of an array":      {`[1,]`, "Expected value but found T_ARR_END at character 4"},
		"a comma too many":                        {`[1,,2]`, "Expected value but found T_COMMA at character 4"},
		"a colon where a value should be":         {`{"a"::1}`, "Expected value but found T_COLON at character 6"},
		"the wrong bracket":                       {`{"a":1]`, "Expected comma or object end but found T_ARR_END at character 7"},
		"an object after the value":               {`{} {}`, "Expected the end but found T_OBJ_BEGIN at character 4"},
		"an array after the value":                {`{} []`, "Expected the end but found T_ARR_BEGIN at character 4"},
		"a string after the value":                {`{}"x"`, "Expected the end but found T_STRING at character 3"},
		"a broken string after the value":         {`{} "abc`, "Expected the end but found unexpected end of string at character 8"},
		"a bracket too many":                      {`{}}`, "Expected the end but found T_OBJ_END at character 3"},
		"a string that is not closed":             {`{"a":"b`, "Expected value but found unexpected end of string at character 8"},
		"a name that is not closed":               {`{"uri`, "Expected object key string but found unexpected end of string at character 6"},
		"a string that ends in a backslash":       {`"a\`, "Expected value but found invalid escape code at character 3"},
		"a string whose quote is escaped":         {`"a\"`, "Expected value but found unexpected end of string at character 5"},
		"no colon":                                {`{"uri" "/x"}`, "Expected colon but found T_STRING at character 8"},
		"no colon before an integer":              {`{"a" -10}`, "Expected colon but found T_INTEGER at character 6"},
		"no colon before a broken number":         {`{"a" 01}`, "Expected colon but found invalid number at character 6"},
		"no comma in an object":                   {`{"a":1 "b":2}`, "Expected comma or object end but found T_STRING at character 8"},
		"no comma before a fraction":              {`[1 2.5]`, "Expected comma or array end but found T_NUMBER at character 4"},
		"no comma before an exponent":             {`[1 2E5]`, "Expected comma or array end but found T_NUMBER at character 4"},
		"no comma before a boolean":               {`[1 false]`, "Expected comma or array end but found T_BOOLEAN at character 4"},
		"a null where a name should be":           {`{null:1}`, "Expected object key string but found T_NULL at character 2"},
		"an integer where a name should be":       {`{1:1}`, "Expected object key string but found T_INTEGER at character 2"},
		"a leading zero":                          {`[01]`, "Expected value but found invalid number at character 2"},
		"a hexadecimal number":                    {`[0x1F]`, "Expected value but found invalid number at character 2"},
		"a minus alone":                           {`[-]`, "Expected value but found invalid number at character 2"},
		"a minus before infinity":                 {`[-Infinity]`, "Expected value but found invalid number at character 2"},
		"a fraction without digits":               {`[1.]`, "Expected value but found invalid number at character 2"},
		"a fraction without a whole":              {`[.5]`, "Expected value but found invalid token at character 2"},
		"a plus":                                  {`[+5]`, "Expected value but found invalid token at character 2"},
		"an exponent without digits":              {`[1e]`, "Expected comma or array end but found invalid token at character 3"},
		"letters after a number":                  {`[12ab]`, "Expected comma or array end but found invalid token at character 4"},
		"NaN":                                     {`{"priority":NaN}`, "Expected value but found invalid token at character 13"},
		"an escape that does not exist":           {`"a\q"`, "Expected value but found invalid escape code at character 3"},
		"a short unicode escape":                  {`"\u12"`, "Expected value but found invalid unicode escape code at character 2"},
		"a unicode escape that is not hex":        {`"\u00g0"`, "Expected value but found invalid unicode escape code at character 2"},
		"the first half of a surrogate pair":      {`"\ud800x"`, "Expected value but found invalid unicode escape code at character 2"},
		"the second half of a surrogate pair":     {`"\udc00"`, "Expected value but found invalid unicode escape code at character 2"},
		"two first halves":                        {`"\ud800\ud800"`, "Expected value but found invalid unicode escape code at character 2"},
		"a control character in a string":         {"\"a\x01\"", "Expected value but found invalid token at character 3"},
		"a line break in a long string":           {"\"twenty letters are in\nhere\"", "Expected value but found invalid token at character 23"},
		"a byte order mark":                       {"\ufeff{}", "Expected value but found invalid token at character 1"},
		"bytes that are not UTF-8":                {"\"ab\xff\"", "invalid utf-8 at character 4"},
		"bytes that are not UTF-8 in a long name": {"{\"größe und gewicht\xc3\":1}", "invalid utf-8 at character 22"},
		"UTF-8 of a surrogate":                    {"\"\xed\xa0\x80\"", "invalid utf-8 at character 2"},
		"an overlong slash":                       {"\"\xc0\xaf\"", "invalid utf-8 at character 2"},
		"too many arrays":                         {strings.Repeat("[", 65), "Found too many nested data structures (65) at character 65"},
		"too many objects":                        {strings.Repeat(`{"a":`, 65), "Found too many nested data structures (65) at character 321"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			err := Check([]byte(tt.text), Options{Duplicates: true})
			var syntax *SyntaxError
			if !errors.As(err, &syntax) {
				t.Fatalf("got %v, want a SyntaxError", err)
			}
			if err.Error() != tt.want {
				t.Errorf("got %v, want %s", err, tt.want)
			}
			if at := fmt.Sprintf("at character %d", syntax.Offset+1); !strings.HasSuffix(tt.want, at) {
				t.Errorf("offset is %d, want that of %q", syntax.Offset, tt.want)
			}
		})
	}
}

func TestWhatIsValid(t *testing.T) {
	tests := map[string]string{
		"sixty-four levels":               strings.Repeat("[", 64) + strings.Repeat("]", 64),
		"a scalar":                        ` null `,
		"numbers of all shapes":           `[0,-0,10,-1.5,0.25,1e9,1E+9,2.5e-3,123456789012345678901234567890]`,
		"escapes of all kinds":            `"\"\\\/\b\f\n\r\t\u0041\uD83E\udd89"`,
		"a delete character":              "\"\x7f\"",
		"text beyond ASCII":               `{"größe":"木 🦉"}`,
		"white space wherever it can be":  " {\t\"a\"\r:\n[ 1 , 2 ] , \"b\" : { } , \"c\" : [ ] } ",
		"strings of all lengths up to 40": lengths(40),
	}
	for name, text := range tests {
		t.Run(name, func(t *testing.T) {
			if err := Check([]byte(text), Options{Duplicates: true}); err != nil {
				t.Errorf("%s: %v", text, err)
			}
			if !json.Valid([]byte(text)) {
				t.Errorf("the test is wrong: %s", text)
			}
		})
	}
}

func lengths(n int) string {
	var list []string
	for i := range n {
		list = append(list, `"`+strings.Repeat("x", i)+`\n`+strings.Repeat("ä", i)+`"`)
	}
	return "[" + strings.Join(list, ",") + "]"
}

func TestDepthIsASetting(t *testing.T) {
	text := []byte(`{"a":[1]}`)
	if err := Check(text, Options{MaxDepth: 2}); err != nil {
		t.Errorf("got %v, want none", err)
	}
	want := "Found too many nested data structures (2) at character 6"
	if err := Check(text, Options{MaxDepth: 1}); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestDuplicates(t *testing.T) {
	tests := map[string]struct {
		text string
		want string // empty: no error
	}{
		"at the top":                        {`{"a":1,"a":2}`, `duplicate member "a" at character 8`},
		"below":                             {`{"x":[{"a":1,"b":2,"a":3}]}`, `duplicate member "a" at character 20`},
		"after unescaping":                  {`{"a":1,"\u0061":2}`, `duplicate member "a" at character 8`},
		"of which the first is escaped":     {`{"\u0061":1,"a":2}`, `duplicate member "a" at character 13`},
		"the empty name":                    {`{"":1,"":2}`, `duplicate member "" at character 7`},
		"in an object with many":            {manyMembers(60, `,"k3":0`), `duplicate member "k3" at character 522`},
		"escaped in an object with many":    {manyMembers(60, `,"\u006b59":0`), `duplicate member "k59" at character 522`},
		"after an object inside":            {`{"a":{"b":1,"c":2},"b":1,"a":2}`, `duplicate member "a" at character 26`},
		"beside one of its length and ends": {`{"aab":1,"acb":2,"acb":3}`, `duplicate member "acb" at character 18`},
		"behind one that is escaped":        {`{"\u0061":1,"b":2,"b":3}`, `duplicate member "b" at character 19`},
		"behind the last of a few":          {manyMembers(manyKeys, `,"k23":0`), `duplicate member "k23" at character 198`},
		"behind the first of many":          {manyMembers(manyKeys+1, `,"k24":0`), `duplicate member "k24" at character 207`},
		"not in sibling objects":            {`[{"a":1},{"a":1}]`, ""},
		"not in parent and child":           {`{"a":{"a":1}}`, ""},
		"not in another letter case":        {`{"model":1,"Model":2}`, ""},
		"not of one length and ends":        {`{"aab":1,"acb":2}`, ""},
		"not among many":                    {manyMembers(60, ""), ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			err := Check([]byte(tt.text), Options{Duplicates: true})
			var dup *DuplicateError
			if tt.want == "" && err != nil || tt.want != "" && (!errors.As(err, &dup) || err.Error() != tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if err := Check([]byte(tt.text), Options{}); err != nil {
				t.Errorf("they are refused without the option: %v", err)
			}
		})
	}
}

func manyMembers(n int, tail string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `,"k%d":%d`, i, i)
	}
	return "{" + b.String()[1:] + tail + "}"
}

func TestIndex(t *testing.T) {
	text := []byte(` {"model":"a","n":12345678901234567890,"m\u006fdel":"b\n","list":[1,{"x":2}],"o":{},"t":true,"z":null} `)
	d, err := Index(text, Options{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range d.Members() {
		got = append(got, fmt.Sprintf("%s %s %s %d", m.Name, text[m.Key.Start:m.Key.End], text[m.Value.Start:m.Value.End], m.Kind))
	}
	want := []string{
		`model "model" "a" 3`, `n "n" 12345678901234567890 4`, `model "m\u006fdel" "b\n" 3`, `list "list" [1,{"x":2}] 2`,
		`o "o" {} 1`, `t "t" true 5`, `z "z" null 6`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if s, ok := d.String("model"); s != "b\n" || !ok {
		t.Errorf("got model %q, want that of the last", s)
	}
	if _, ok := d.String("n"); ok {
		t.Error("a number is taken for a string")
	}
	if raw, kind, ok := d.Get("n"); string(raw) != "12345678901234567890" || kind != Number || !ok {
		t.Errorf("got n %s %v %v", raw, kind, ok)
	}
	if _, kind, ok := d.Get("x"); ok || kind != Invalid || d.Has("x") {
		t.Error("a member of a member is taken for one of the document")
	}
	if d.Len() != 7 || d.Kind() != Object || string(d.Bytes()) != string(text) {
		t.Errorf("got length %d, kind %v", d.Len(), d.Kind())
	}
	if _, err := Index([]byte(`{"a":1,"a":2}`), Options{Duplicates: true}); err == nil {
		t.Error("a duplicate is not refused")
	}
}

func TestIndexOfOtherKinds(t *testing.T) {
	tests := map[string]struct {
		text string
		kind Kind
		len  int
	}{
		"an array":        {`[1,[2,3],{"a":4}]`, Array, 3},
		"an empty array":  {`[]`, Array, 0},
		"an empty object": {` {} `, Object, 0},
		"many members":    {manyMembers(60, ""), Object, 60},
		"a string":        {`"x"`, String, 0},
		"a number":        {`1`, Number, 0},
		"a boolean":       {`false`, Bool, 0},
		"null":            {`null`, Null, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			d, err := Index([]byte(tt.text), Options{})
			if err != nil {
				t.Fatal(err)
			}
			if d.Kind() != tt.kind || d.Len() != tt.len {
				t.Errorf("got kind %v, length %d, want %v, %d", d.Kind(), d.Len(), tt.kind, tt.len)
			}
		})
	}
}

func TestNamesOutliveTheDocument(t *testing.T) {
	text := []byte(`{"model":"m"}`)
	d, err := Index(text, Options{})
	if err != nil {
		t.Fatal(err)
	}
	name := d.Members()[0].Name
	clear(text)
	if name != "model" {
		t.Errorf("got %q, want model", name)
	}
}

func TestElementsAndMembers(t *testing.T) {
	var got []string
	note := func(at any, raw []byte, k Kind) error {
		got = append(got, fmt.Sprint(at, " ", string(raw), " ", k))
		if string(raw) == `"stop"` {
			return errStop
		}
		return nil
	}
	elements := func(p string) error {
		got = nil
		return Elements([]byte(p), func(i int, raw []byte, k Kind) error { return note(i, raw, k) })
	}
	members := func(p string) error {
		got = nil
		return Members([]byte(p), func(name string, raw []byte, k Kind) error { return note(name, raw, k) })
	}
	tests := map[string]struct {
		walk func(string) error
		text string
		want []string
		err  string
	}{
		"elements":                       {elements, ` [ 1 ,"x", {"a":[2]} ] `, []string{"0 1 4", `1 "x" 3`, `2 {"a":[2]} 1`}, ""},
		"no elements":                    {elements, `[ ]`, nil, ""},
		"elements up to an error":        {elements, `["stop",2]`, []string{`0 "stop" 3`}, "stop"},
		"elements of an object":          {elements, `{}`, nil, "not an array"},
		"elements of a broken array":     {elements, `[1 2]`, []string{"0 1 4"}, "Expected comma or array end but found T_INTEGER at character 4"},
		"elements of an array cut short": {elements, `[1,`, []string{"0 1 4"}, "Expected value but found T_END at character 4"},
		"members":                        {members, `{"a":1,"\u0062":[2]}`, []string{"a 1 4", "b [2] 2"}, ""},
		"members up to an error":         {members, `{"a":"stop","b":2}`, []string{`a "stop" 3`}, "stop"},
		"members of an array":            {members, `[]`, nil, "not an object"},
		"members of a broken object":     {members, `{"a":}`, nil, "Expected value but found T_OBJ_END at character 6"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			err := tt.walk(tt.text)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
			if tt.err == "" && err != nil || tt.err != "" && (err == nil || err.Error() != tt.err) {
				t.Errorf("got %v, want %q", err, tt.err)
			}
		})
	}
}

var errStop = errors.New("stop")

func TestFind(t *testing.T) {
	for _, tt := range []struct {
		doc, value string
		kind       Kind
		ok         bool
		err        string
	}{
		{`{"a":1,"\u0061":[2]}`, `[2]`, Array, true, ``},
		{`{"b":{"a":1}}`, ``, Invalid, false, ``},
		{`["a"]`, ``, Invalid, false, ``},
		{`{"a":1`, ``, Invalid, false, `Expected comma or object end but found T_END at character 7`},
	} {
		value, kind, ok, err := Find([]byte(tt.doc), "a")
		if string(value) != tt.value || kind != tt.kind || ok != tt.ok || (err != nil || tt.err != "") && fmt.Sprint(err) != tt.err {
			t.Errorf("%s: got %s, %d, %v, %v", tt.doc, value, kind, ok, err)
		}
	}
}

func TestSplice(t *testing.T) {
	set := func(name, value string) Edit { return Edit{Name: name, Value: []byte(value)} }
	tests := map[string]struct {
		doc   string
		edits []Edit
		want  string
	}{
		"a member is replaced where it stands":       {`{"a":1, "b" : 2 ,"c":3}`, []Edit{set("b", `"x"`)}, `{"a":1, "b" : "x" ,"c":3}`},
		"a new member comes last":                    {`{"a":1 }`, []Edit{set("b", "2")}, `{"a":1,"b":2 }`},
		"a member is added to an empty object":       {`{ }`, []Edit{set("b", "2"), set("c", "3")}, `{"b":2,"c":3 }`},
		"the first member is removed":                {`{"a":1, "b":2}`, []Edit{{Name: "a"}}, `{"b":2}`},
		"the last member is removed":                 {`{"a":1, "b":2 }`, []Edit{{Name: "b"}}, `{"a":1 }`},
		"the only member is removed":                 {`{"a":1}`, []Edit{{Name: "a"}}, `{}`},
		"all members are removed and one added":      {`{"a":1,"b":2,"c":3}`, []Edit{{Name: "a"}, {Name: "b"}, {Name: "c"}, set("d", "4")}, `{"d":4}`},
		"of a member that occurs twice one is left":  {`{"m":1,"x":2,"m":3}`, []Edit{set("m", "9")}, `{"m":9,"x":2}`},
		"an escaped name is the same name":           {`{"m\u006fdel":1,"x":2}`, []Edit{set("model", "9")}, `{"m\u006fdel":9,"x":2}`},
		"no edits change nothing":                    {` {"n":1e-7,"o":1.0} `, nil, ` {"n":1e-7,"o":1.0} `},
		"removing what is not there changes nothing": {`{"a":1}`, []Edit{{Name: "b"}}, `{"a":1}`},
		"of two edits of a name the last counts":     {`{"a":1}`, []Edit{set("a", "2"), {Name: "b"}, set("a", "3"), set("b", "4")}, `{"a":3,"b":4}`},
		"a removal after a replacement removes":      {`{"a":1,"b":2}`, []Edit{set("a", "2"), {Name: "a"}}, `{"b":2}`},
		"the first two of three are removed":         {`{ "a":1, "b":2, "c":3 }`, []Edit{{Name: "a"}, {Name: "b"}}, `{ "c":3 }`},
		"the outer two of three are removed":         {`{"a":1,"b":2 , "c":3}`, []Edit{{Name: "a"}, {Name: "c"}}, `{"b":2}`},
		"all duplicates are removed":                 {`{"a":1,"b":2,"a":3,"a":4}`, []Edit{{Name: "a"}}, `{"b":2}`},
		"an array has no members":                    {`["a"]`, []Edit{set("a", "2")}, `["a"]`},
		"many edits":                                 {manyMembers(20, ""), manyEditsOf(20), strings.ReplaceAll(manyMembers(20, ""), ":", ":-")},
		"a name with a quote is quoted":              {`{}`, []Edit{set(`a"b`, "1")}, `{"a\"b":1}`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			d, err := Index([]byte(tt.doc), Options{})
			if err != nil {
				t.Fatal(err)
			}
			segs := d.Splice(nil, tt.edits)
			if diff := cmp.Diff(tt.want, string(Join(segs))); diff != "" {
				t.Error(diff)
			}
			if SegmentsLen(segs) != len(tt.want) {
				t.Errorf("length %d, want %d", SegmentsLen(segs), len(tt.want))
			}
		})
	}
}

func manyEditsOf(n int) (edits []Edit) {
	for i := range n {
		edits = append(edits, Edit{Name: fmt.Sprint("k", i), Value: []byte(fmt.Sprint("-", i))})
	}
	return edits
}

func TestSpliceCopiesNothing(t *testing.T) {
	text := []byte(`{"model":"a","messages":[1,2,3],"stream":false}`)
	d, err := Index(text, Options{})
	if err != nil {
		t.Fatal(err)
	}
	value := []byte(`"b"`)
	segs := d.Splice(nil, []Edit{{Name: "model", Value: value}})
	if len(segs) != 3 || &segs[0][0] != &text[0] || &segs[1][0] != &value[0] || &segs[2][0] != &text[12] {
		t.Errorf("got %q, want three segments that alias text, value and text", segs)
	}
	room, edits := make([][]byte, 0, 8), []Edit{{Name: "model", Value: value}, {Name: "stream"}}
	if n := testing.AllocsPerRun(100, func() { room = d.Splice(room[:0], edits) }); n != 0 {
		t.Errorf("a splice of members that are there allocates %v times", n)
	}
}

func TestMerge(t *testing.T) {
	tests := map[string]struct{ doc, patch, want string }{
		"objects merge":                      {`{"a":{"x":1, "y":2}}`, `{"a":{"y":3}}`, `{"a":{"x":1, "y":3}}`},
		"null removes":                       {`{"a":1,"b":2}`, `{"a":null}`, `{"b":2}`},
		"arrays replace":                     {`{"a":[1,2]}`, `{"a":[3]}`, `{"a":[3]}`},
		"an object replaces an array":        {`{"a":[1]}`, `{"a":{"b":1}}`, `{"a":{"b":1}}`},
		"an object over nothing is as given": {`{}`, `{"a":{"b":null}}`, `{"a":{"b":null}}`},
		"a null in an object over a scalar":  {`{"a":1}`, `{"a":{"b":null}}`, `{"a":{"b":null}}`},
		"an array replaces an object":        {`{"a":{"b":1}}`, `{"a":[1]}`, `{"a":[1]}`},
		"a scalar replaces an object":        {`{"a":{"b":1}}`, `{"a":2}`, `{"a":2}`},
		"null removes deep down":             {`{"a":{"b":{"c":1,"d":2}}}`, `{"a":{"b":{"c":null}}}`, `{"a":{"b":{"d":2}}}`},
		"removing what is not there":         {`{"a":1}`, `{"b":null}`, `{"a":1}`},
		"an array at the top replaces":       {`{"a":1}`, " [1]\n", `[1]`},
		"an object over an array":            {`[1]`, `{"a":null}`, `{"a":null}`},
		"an empty patch":                     {`{"a":1} `, `{}`, `{"a":1} `},
		"many members":                       {manyMembers(30, ""), manyMembers(30, `,"k3":{"x":1}`), strings.Replace(manyMembers(30, ""), `"k3":3`, `"k3":{"x":1}`, 1)},
		"untouched bytes stay":               {`{"n":1.0 ,"a":1}`, `{"a":2}`, `{"n":1.0 ,"a":2}`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := Merge([]byte(tt.doc), []byte(tt.patch))
			if err != nil || string(got) != tt.want {
				t.Errorf("got %s, %v, want %s", got, err, tt.want)
			}
		})
	}
}

func TestMergeAndSetPathRefuseBrokenText(t *testing.T) {
	var syntax *SyntaxError
	if _, err := Merge([]byte(`{`), []byte(`{}`)); !errors.As(err, &syntax) {
		t.Errorf("document: got %v, want a SyntaxError", err)
	}
	if _, err := Merge([]byte(`{}`), []byte(`{`)); !errors.As(err, &syntax) {
		t.Errorf("patch: got %v, want a SyntaxError", err)
	}
	if _, err := SetPath([]byte(`{`), []string{"a"}, []byte(`1`)); !errors.As(err, &syntax) {
		t.Errorf("path: got %v, want a SyntaxError", err)
	}
}

func TestSetPath(t *testing.T) {
	tests := map[string]struct {
		doc   string
		path  []string
		want  string
		depth int
	}{
		"a member is replaced":                 {`{"a":{"b":1,"c":2}}`, []string{"a", "b"}, `{"a":{"b":true,"c":2}}`, 0},
		"objects on the way are made":          {`{}`, []string{"a", "b"}, `{"a":{"b":true}}`, 0},
		"a number on the way is an error":      {`{"a":{"b":1}}`, []string{"a", "b", "c"}, "", 2},
		"an array on the way is an error":      {`{"a":[1]}`, []string{"a", "0"}, "", 1},
		"a null on the way is an error":        {`{"a":null}`, []string{"a", "b"}, "", 1},
		"a document that is no object":         {`[1]`, []string{"a"}, "", 0},
		"of duplicates the last counts":        {`{"a":1, "a":{"b":2}}`, []string{"a", "c"}, `{"a":{"b":2,"c":true}}`, 0},
		"without a path the document is value": {`{}`, nil, `true`, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := SetPath([]byte(tt.doc), tt.path, []byte("true"))
			var path *PathError
			if tt.want == "" {
				if !errors.As(err, &path) || path.Depth != tt.depth {
					t.Errorf("got %s, %v, want a PathError of depth %d", got, err, tt.depth)
				}
				return
			}
			if err != nil || string(got) != tt.want {
				t.Errorf("got %s, %v, want %s", got, err, tt.want)
			}
		})
	}
}

func TestQuote(t *testing.T) {
	for _, s := range []string{"", "plain", "q\"b\\s/", "\b\f\n\r\t\x00\x1f", "größe 木 🦉", "\u2028"} {
		raw := AppendQuote(nil, s)
		if got, err := Unquote(raw); got != s || err != nil {
			t.Errorf("%q became %s and then %q, %v", s, raw, got, err)
		}
		var std string
		if err := json.Unmarshal(raw, &std); err != nil || std != s {
			t.Errorf("encoding/json reads %s as %q, %v", raw, std, err)
		}
	}
	if got := string(AppendQuote(nil, "a\xffb\xc3")); got != "\"a\uFFFDb\uFFFD\"" {
		t.Errorf("bytes that are not UTF-8: got %q", got)
	}
	for _, raw := range []string{``, `"`, `a`, `1`, `"a"b"`, `"a" `, ` "a"`, `"\q"`, "\"\xff\"", `"\u00"`} {
		if got, err := Unquote([]byte(raw)); err == nil {
			t.Errorf("%q is read as %q", raw, got)
		}
	}
	if got, err := Unquote([]byte(`"\ud83e\udd89\u0041"`)); got != "🦉A" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}

var seeds = []string{
	`{}`, `[]`, `{"a":1}`, `{"model":"m","messages":[{"role":"user","content":"hi"}],"n":1e-7}`,
	`"\ud83e\udd89"`, `[1,2.5,-0,1e+9]`, `{"a":{"b":[true,false,null]},"a":2}`, "{\"\u6728\":\"\\u0000\"}", ` { "a" : [ ] } `, `"a\q"`, `01`, `{"a":`,
}

func FuzzCheckAgreesWithEncodingJSON(f *testing.F) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		err := Check(p, Options{MaxDepth: 5000})
		if (err == nil) != validAsWeSee(p) {
			t.Fatalf("%q: %v", p, err)
		}
		if twice := Check(p, Options{MaxDepth: 5000, Duplicates: true}); err == nil && (twice != nil) != hasDuplicates(t, p) {
			t.Fatalf("%q: %v", p, twice)
		}
		if d, ierr := Index(p, Options{MaxDepth: 5000}); fmt.Sprint(ierr) != fmt.Sprint(err) {
			t.Fatalf("%q: %v and %v", p, ierr, err)
		} else if ierr == nil && d.Kind() == Invalid {
			t.Fatalf("%q is of no kind", p)
		}
	})
}

// validAsWeSee is encoding/json's judgement, but for the two things in which it is more
// lenient: UTF-8 and halves of surrogate pairs, which it replaces.
func validAsWeSee(p []byte) bool {
	if !json.Valid(p) || !utf8.Valid(p) {
		return false
	}
	var units []uint64
	for i := 0; i < len(p); i++ {
		unit := uint64(0)
		if p[i] == '\\' && p[i+1] == 'u' {
			unit, _ = strconv.ParseUint(string(p[i+2:i+6]), 16, 32)
			i += 5
		} else if p[i] == '\\' {
			i++
		}
		units = append(units, unit)
	}
	for i := 0; i < len(units); i++ {
		switch units[i] >> 10 {
		case 0xd800 >> 10:
			if i++; i == len(units) || units[i]>>10 != 0xdc00>>10 {
				return false
			}
		case 0xdc00 >> 10:
			return false
		}
	}
	return true
}

func hasDuplicates(t *testing.T, p []byte) bool {
	type frame struct {
		names map[string]bool
		key   bool
	}
	var open []*frame
	dec := json.NewDecoder(bytes.NewReader(p))
	dec.UseNumber()
	for {
		token, err := dec.Token()
		if err == io.EOF {
			return false
		}
		if err != nil {
			t.Fatal(err)
		}
		delim, _ := token.(json.Delim)
		if len(open) > 0 && delim != '}' && delim != ']' {
			top := open[len(open)-1]
			if top.key {
				name := token.(string)
				if top.names[name] {
					return true
				}
				top.names[name] = true
			}
			if top.names != nil {
				top.key = !top.key
			}
		}
		switch delim {
		case '{':
			open = append(open, &frame{map[string]bool{}, true})
		case '[':
			open = append(open, &frame{})
		case '}', ']':
			open = open[:len(open)-1]
		}
	}
}

func FuzzSpliceIsAMapUpdate(f *testing.F) {
	for _, s := range seeds {
		f.Add([]byte(s), "a", []byte("1"), "b", true)
	}
	f.Fuzz(func(t *testing.T, p []byte, name string, value []byte, gone string, remove bool) {
		d, err := Index(p, Options{})
		if err != nil || d.Kind() != Object || Check(value, Options{MaxDepth: 10}) != nil || !utf8.ValidString(name) || !utf8.ValidString(gone) {
			return
		}
		edits := []Edit{{Name: name, Value: value}}
		if remove {
			edits = append(edits, Edit{Name: gone})
		}
		segs := d.Splice(nil, edits)
		got := Join(segs)
		if len(got) != SegmentsLen(segs) {
			t.Fatalf("got %d bytes, want %d", len(got), SegmentsLen(segs))
		}
		want := rawMembers(t, p)
		want[name] = string(bytes.TrimSpace(value))
		if remove {
			delete(want, gone)
		}
		if diff := cmp.Diff(want, rawMembers(t, got)); diff != "" {
			t.Fatalf("%q with %q became %q: %s", p, edits, got, diff)
		}
		after, err := Index(got, Options{MaxDepth: 80})
		if err != nil {
			t.Fatal(err)
		}
		touched := 0
		for _, m := range after.Members() {
			if m.Name == name {
				touched++
			}
		}
		if _, ok := want[name]; ok != (touched == 1) {
			t.Fatalf("%q with %q became %q", p, edits, got)
		}
	})
}

func rawMembers(t *testing.T, p []byte) map[string]string {
	t.Helper()
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(p, &raw); err != nil {
		t.Fatalf("%q: %v", p, err)
	}
	members := map[string]string{}
	for name, value := range raw {
		members[name] = string(bytes.TrimSpace(value))
	}
	return members
}

func FuzzMergeIsADecodedMerge(f *testing.F) {
	for i, s := range seeds {
		f.Add([]byte(s), []byte(seeds[(i+3)%len(seeds)]))
		f.Add([]byte(`{"a":{"b":[1],"c":{"d":1}}}`), []byte(s))
	}
	f.Add([]byte(`{"a":{"b":1,"c":2},"d":3}`), []byte(`{"a":{"b":null,"e":{"f":null}},"d":{"g":1}}`))
	f.Fuzz(func(t *testing.T, doc, patch []byte) {
		if Check(doc, Options{Duplicates: true}) != nil || Check(patch, Options{Duplicates: true}) != nil {
			return
		}
		got, err := Merge(doc, patch)
		if err != nil {
			t.Fatalf("%q into %q: %v", patch, doc, err)
		}
		if diff := cmp.Diff(mergeDecoded(decode(t, doc), decode(t, patch)), decode(t, got)); diff != "" {
			t.Fatalf("%q into %q became %q: %s", patch, doc, got, diff)
		}
	})
}

func decode(t *testing.T, p []byte) (v any) {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(p))
	dec.UseNumber()
	if err := dec.Decode(&v); err != nil {
		t.Fatalf("%q: %v", p, err)
	}
	return v
}

func mergeDecoded(doc, patch any) any {
	d, ok1 := doc.(map[string]any)
	c, ok2 := patch.(map[string]any)
	if !ok1 || !ok2 {
		return patch
	}
	for name, value := range c {
		_, object := d[name].(map[string]any)
		_, into := value.(map[string]any)
		switch {
		case value == nil:
			delete(d, name)
		case object && into:
			d[name] = mergeDecoded(d[name], value)
		default:
			d[name] = value
		}
	}
	return d
}

func FuzzSetPathIsADecodedAssignment(f *testing.F) {
	for _, s := range seeds {
		f.Add([]byte(s), "a", "b", []byte("{}"))
	}
	f.Fuzz(func(t *testing.T, doc []byte, first, second string, value []byte) {
		if Check(doc, Options{Duplicates: true}) != nil || Check(value, Options{Duplicates: true}) != nil ||
			!utf8.ValidString(first) || !utf8.ValidString(second) {
			return
		}
		got, err := SetPath(doc, []string{first, second}, value)
		want := decode(t, doc)
		top, ok := want.(map[string]any)
		depth := 0
		if ok {
			depth = 1
			if _, there := top[first]; !there {
				top[first] = map[string]any{}
			}
			if top, ok = top[first].(map[string]any); ok {
				top[second] = decode(t, value)
			}
		}
		if !ok {
			var path *PathError
			if !errors.As(err, &path) || path.Depth != depth {
				t.Fatalf("%q: got %v, want a PathError of depth %d", doc, err, depth)
			}
			return
		}
		if err != nil {
			t.Fatalf("%q: %v", doc, err)
		}
		if diff := cmp.Diff(want, decode(t, got)); diff != "" {
			t.Fatalf("%q became %q: %s", doc, got, diff)
		}
	})
}

func FuzzQuote(f *testing.F) {
	for _, s := range seeds {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		raw := AppendQuote(nil, s)
		got, err := Unquote(raw)
		if want := strings.ToValidUTF8(s, "\uFFFD"); err != nil || utf8.ValidString(s) && got != want {
			t.Fatalf("%q became %s and then %q, %v", s, raw, got, err)
		}
		var std string
		if err := json.Unmarshal(raw, &std); err != nil || std != got {
			t.Fatalf("encoding/json reads %s as %q, %v, want %q", raw, std, err, got)
		}
		if got, err := Unquote([]byte(s)); err == nil {
			if err := json.Unmarshal([]byte(s), &std); err != nil || std != got {
				t.Fatalf("%s is %q, encoding/json reads %q, %v", s, got, std, err)
			}
		}
	})
}

// chat is a request body of about that size in bytes, in messages of a paragraph each.
func chat(size int) []byte {
	const paragraph = `{"role":"user","content":"The owl is said to be \"wise\", and it turns its head by 270°. ` +
		`Nobody asked the owl what it thinks of that, or whether it would rather be known for its ears.\n` +
		`Write a short letter to the owl, in three paragraphs, and be polite."}`
	var b bytes.Buffer
	b.WriteString(`{"model":"gpt-4","messages":[{"role":"system","content":"You are an owl."}`)
	for b.Len() < size-100 {
		b.WriteString("," + paragraph)
	}
	b.WriteString(`],"temperature":0.7,"stream":true,"max_tokens":512}`)
	return b.Bytes()
}

func TestIndexAllocatesLittle(t *testing.T) {
	p := chat(16 << 10)
	if n := testing.AllocsPerRun(100, func() {
		if _, err := Index(p, Options{Duplicates: true}); err != nil {
			t.Fatal(err)
		}
	}); n > 3 {
		t.Errorf("got %v allocations, want at most 3", n)
	}
	if n := testing.AllocsPerRun(100, func() {
		if err := Check(p, Options{}); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("a check: got %v allocations, want none", n)
	}
}

func BenchmarkIndex(b *testing.B) {
	for _, size := range []int{1 << 10, 16 << 10, 128 << 10} {
		p := chat(size)
		name := fmt.Sprintf("%dKB", size>>10)
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(p)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Index(p, Options{Duplicates: true}); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+"/encoding-json", func(b *testing.B) {
			b.SetBytes(int64(len(p)))
			b.ReportAllocs()
			for b.Loop() {
				var m map[string]json.RawMessage
				if err := json.Unmarshal(p, &m); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkSplice(b *testing.B) {
	d, err := Index(chat(16<<10), Options{})
	if err != nil {
		b.Fatal(err)
	}
	edits := []Edit{{Name: "model", Value: []byte(`"gpt-4o"`)}, {Name: "stream", Value: []byte("false")}, NewEdit("top_p", []byte("0.5"))}
	segs := make([][]byte, 0, 16)
	b.ReportAllocs()
	for b.Loop() {
		segs = d.Splice(segs[:0], edits)
	}
}

func TestReindexAllocatesNothing(t *testing.T) {
	p, d := chat(16<<10), new(Doc)
	if n := testing.AllocsPerRun(100, func() {
		if err := d.Reindex(p, Options{Duplicates: true}); err != nil {
			t.Fatal(err)
		}
		if model, ok := d.View("model"); !ok || model != "gpt-4" {
			t.Fatal(model, ok)
		}
	}); n != 0 {
		t.Errorf("got %v allocations, want none", n)
	}
	small, seen := []byte(`{"prompt_tokens":1,"details":{"cached":2}}`), 0
	if n := testing.AllocsPerRun(100, func() {
		_ = Peek(small, func(name string, raw []byte, k Kind) error {
			if name == "details" && k == Object {
				return Peek(raw, func(string, []byte, Kind) error { seen++; return nil })
			}
			return nil
		})
	}); n != 0 && !racetest.Enabled {
		t.Errorf("peeking: got %v allocations, want none", n)
	}
	if seen == 0 {
		t.Error("nothing was seen")
	}
}

// A document that is used again is what a fresh one is.
func TestReindexIsIndex(t *testing.T) {
	long := `{"a":0`
	for i := range 300 {
		long += fmt.Sprintf(`,"k%d":%d`, i, i)
	}
	d := new(Doc)
	for _, text := range []string{
		`{"a":1,"\u0062":"two","c":[1,2]}`, `[1,2,3]`, `{`, `{"a":1,"a":2}`, `"text"`, long + `}`, `{"model":"x\ny","a":null}`, ``, `{}`,
	} {
		for _, o := range []Options{{}, {Duplicates: true}, {MaxDepth: 1}} {
			want, wantErr := Index([]byte(text), o)
			err := d.Reindex([]byte(text), o)
			if fmt.Sprint(err) != fmt.Sprint(wantErr) {
				t.Errorf("%.40s: got %v, want %v", text, err, wantErr)
			}
			if err != nil {
				if d.Len() != 0 || d.Kind() != Invalid {
					t.Errorf("%.40s: %d members after an error", text, d.Len())
				}
				continue
			}
			if d.Kind() != want.Kind() || d.Len() != want.Len() || !slices.Equal(d.Members(), want.Members()) {
				t.Errorf("%.40s: got %v, want %v", text, d.Members(), want.Members())
			}
			if a, ok := d.View("model"); true {
				if b, is := want.String("model"); a != b || ok != is {
					t.Errorf("%.40s: got %q, want %q", text, a, b)
				}
			}
		}
	}
}

func BenchmarkReindex(b *testing.B) {
	for _, size := range []int{1 << 10, 16 << 10, 128 << 10} {
		p, d := chat(size), new(Doc)
		b.Run(fmt.Sprintf("%dKB", size>>10), func(b *testing.B) {
			b.SetBytes(int64(len(p)))
			b.ReportAllocs()
			for b.Loop() {
				if err := d.Reindex(p, Options{Duplicates: true}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// texts are what bodies have between quotes.
var texts = map[string]string{
	"plain":   "The quick brown fox jumps over the lazy dog and goes home again, which takes it a while. ",
	"escapes": `The quick brown fox said: \"jump\" over the lazy dog.\nAnd again: `,
	"prose": `Dear reader,\n\nit broke again, \"for the third time\": see C:\\orders\\2024.\n\t- one caf\u00e9 table, 120 × 80 cm\n` +
		`\t- two chairs, oak\nPlease find out what went wrong, and say so in three short sentences. Naïve excuses are not wanted 🙂. `,
	"Chinese": "敏捷的棕色狐狸跳过了懒狗， 然后回家了。 这花了它一段时间， 因为路很长。 ",
	"code":    `func f(x int) string {\n\tif x > 0 {\n\t\treturn fmt.Sprintf(\"%d\", x)\n\t}\n\treturn \"\"\n}\n`,
}

func BenchmarkText(b *testing.B) {
	for name, text := range texts {
		p, d := []byte(`{"content":"`+shuffled(text, 16<<10)+`"}`), new(Doc)
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(p)))
			for b.Loop() {
				if err := d.Reindex(p, Options{Duplicates: true}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// shuffled is that many bytes of a text's words in an order that does not come again, since no
// text repeats itself so that a processor could know what comes next.
func shuffled(text string, size int) string {
	words, r := strings.SplitAfter(text, " "), rand.New(rand.NewPCG(1, 2))
	var b strings.Builder
	for b.Len() < size {
		b.WriteString(words[r.IntN(len(words))])
	}
	return b.String()
}
