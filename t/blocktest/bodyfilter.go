package blocktest

import (
	"crypto/md5"
	"crypto/sha1"
	"encoding/hex"
	"strconv"
	"strings"

	"github.com/gosix/gosix/t/blocktest/perl"
)

// bodyFilters are what response_body_filters may name.
var bodyFilters = map[string]func(string) string{
	"md5_hex":  func(s string) string { h := md5.Sum([]byte(s)); return hex.EncodeToString(h[:]) },
	"sha1_hex": func(s string) string { h := sha1.Sum([]byte(s)); return hex.EncodeToString(h[:]) },
	"uc":       strings.ToUpper,
	"lc":       strings.ToLower,
	"ucfirst":  func(s string) string { return strings.ToUpper(s[:min(1, len(s))]) + s[min(1, len(s)):] },
	"lcfirst":  func(s string) string { return strings.ToLower(s[:min(1, len(s))]) + s[min(1, len(s)):] },
	"length":   func(s string) string { return strconv.Itoa(len(s)) },
}

// filterBody changes the body before it is compared. A list of lists has one for each
// request.
func (j *judge) filterBody() {
	v := j.get("response_body_filters")
	if v == nil {
		return
	}
	var names []perl.Value
	switch v := v.(type) {
	case string:
		for _, name := range strings.Fields(v) {
			names = append(names, name)
		}
	case *perl.Array:
		names = v.Elems
		if len(names) > 0 {
			if _, nested := names[0].(*perl.Array); nested {
				names = j.filtersOfRequest(names)
			}
		}
	default:
		names = []perl.Value{v}
	}
	for _, name := range names {
		do, ok := bodyFilters[perl.Text(name)]
		if !ok {
			j.fail("response_body_filters", "%s is no filter", perl.Text(name))
			continue
		}
		j.resp.body = do(j.resp.body)
	}
}

func (j *judge) filtersOfRequest(lists []perl.Value) []perl.Value {
	if j.index < len(lists) {
		if a, ok := lists[j.index].(*perl.Array); ok {
			return a.Elems
		}
	}
	j.fail("response_body_filters", "nothing for this request")
	return nil
}
