package resource

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// Ref is a member that names another item, which must exist when the document is written
// (spec/01 §3.6).
type Ref struct {
	Member string // dotted path: "upstream.tls.client_cert_id"
	Kind   string // of the item that is named: "ssls"
	Word   string // for it in messages: "ssl"

	text  string // of the message, if it has another form
	check func(r Ref, id string, doc, item any) error
}

// ID returns the id that doc refers to; ok is false if it refers to none.
func (r Ref) ID(doc any) (id string, ok bool) {
	ids := values(doc, r.Member)
	if len(ids) == 0 {
		return "", false
	}
	return IDText(ids[0])
}

// Missing is the error for an id that does not exist.
func (r Ref) Missing(id string) error {
	return fmt.Errorf("%s, response code: %d", r.failure(id), http.StatusNotFound)
}

// Failed is the error for an id that could not be looked up.
func (r Ref) Failed(id string, err error) error {
	return fmt.Errorf("%s: %w", r.failure(id), err)
}

func (r Ref) failure(id string) string {
	if r.text != "" {
		return fmt.Sprintf(r.text, id)
	}
	return fmt.Sprintf("failed to fetch %s info by %s id [%s]", r.Word, r.Word, id)
}

// Check judges the item that id names: whether doc may name it here.
func (r Ref) Check(id string, doc, item any) error {
	if r.check == nil {
		return nil
	}
	return r.check(r, id, doc, item)
}

func isClientCert(r Ref, id string, _, item any) error {
	if text(object(item)["type"]) != "client" {
		return fmt.Errorf("%s, wrong ssl type", r.failure(id))
	}
	return nil
}

// hasSameProtocol holds a stream route to what its superior speaks.
func hasSameProtocol(_ Ref, _ string, doc, item any) error {
	own, superior := object(object(doc)["protocol"]), object(object(item)["protocol"])
	if superior != nil && text(own["name"]) != text(superior["name"]) {
		return fmt.Errorf("protocol mismatch: subordinate protocol [%s] does not match superior protocol [%s]", text(own["name"]), text(superior["name"]))
	}
	return nil
}

// Use is a way in which items of another kind depend on an item, which then must not be
// deleted (spec/01 §3.6).
type Use struct {
	Kind   string // of the items that depend
	Plugin string // the dependence is in the configuration of this plugin, if not empty
	Member string // dotted path from the document or the plugin's configuration; "a[].b" goes through lists

	text string
}

// By reports whether doc, an item of kind u.Kind, depends on the item called id.
func (u Use) By(doc any, id string) bool {
	if u.Plugin != "" {
		doc = object(object(doc)["plugins"])[u.Plugin]
	}
	return slices.ContainsFunc(values(doc, u.Member), func(v any) bool {
		used, ok := IDText(v)
		return ok && used == id
	})
}

// Refusal is the error that names the item which depends.
func (u Use) Refusal(user string) error { return fmt.Errorf(u.text, user) }

// values returns what stands at a dotted path; a step "x[]" stands for every element of x.
func values(doc any, path string) []any {
	if path == "" {
		return []any{doc}
	}
	step, rest, _ := strings.Cut(path, ".")
	name, each := strings.CutSuffix(step, "[]")
	v, ok := object(doc)[name]
	if !ok {
		return nil
	}
	if !each {
		return values(v, rest)
	}
	var found []any
	list, _ := v.([]any)
	for _, item := range list {
		found = append(found, values(item, rest)...)
	}
	return found
}

// IDText is an id of a decoded document as text; ids may be written as numbers
// (spec/01 §3.1). A whole number keeps its digits, however many; 1.0 is "1". It is not ok
// for what is no id.
func IDText(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, v != ""
	case json.Number:
		if strings.Trim(string(v), "0123456789") == "" {
			return string(v), true
		}
		return strconv.FormatFloat(number(v), 'f', -1, 64), true
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64), true
	}
	return "", false
}
