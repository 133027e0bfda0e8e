package jsonedit

import (
	"bytes"
	"fmt"
)

// PathError is a path that leads through something that is no object. Depth is the number
// of its steps that lead there: path[:Depth] names the culprit, and 0 is the document.
type PathError struct{ Depth int }

func (e *PathError) Error() string {
	return fmt.Sprintf("what step %d of the path leads to is no object", e.Depth)
}

// SetPath returns the document with value, JSON text, at a path of member names; missing
// objects on the way are made (spec/01 §3.5). Bytes that the path does not touch stay. An
// error is that of Index, or a *PathError.
func SetPath(p []byte, path []string, value []byte) ([]byte, error) {
	return setPath(p, path, trim(value), 0)
}

func setPath(p []byte, path []string, value []byte, depth int) ([]byte, error) {
	if depth == len(path) {
		return value, nil
	}
	d, err := IndexTrusted(p)
	if err != nil {
		return nil, err
	}
	if d.kind != Object {
		return nil, &PathError{Depth: depth}
	}
	below, _, ok := d.Get(path[depth])
	if !ok {
		below = []byte("{}")
	}
	inner, err := setPath(below, path, value, depth+1)
	if err != nil {
		return nil, err
	}
	return Join(d.Splice(nil, []Edit{{Name: path[depth], Value: inner}})), nil
}

// Merge returns the document with a patch merged into it (spec/01 §3.5): an object into
// an object goes member by member, null removes a member, anything else replaces. Unlike
// in RFC 7386 an object that meets no object is stored as it stands, its nulls with it.
// Bytes that the patch does not touch stay. An error is that of Index.
func Merge(doc, patch []byte) ([]byte, error) {
	d, err := IndexTrusted(doc)
	if err != nil {
		return nil, err
	}
	c, err := IndexTrusted(patch)
	if err != nil {
		return nil, err
	}
	if d.kind != Object || c.kind != Object {
		return trim(patch), nil
	}
	get := d.Get
	if len(c.members) > manyEdits {
		get = d.getter()
	}
	edits := make([]Edit, len(c.members))
	for i := range c.members {
		m := &c.members[i]
		edits[i] = Edit{Name: m.Name, Value: c.value(m)}
		switch m.Kind {
		case Null:
			edits[i].Value = nil
		case Object:
			before, kind, ok := get(m.Name)
			if !ok || kind != Object {
				continue
			}
			if edits[i].Value, err = Merge(before, edits[i].Value); err != nil {
				return nil, err
			}
		}
	}
	return Join(d.Splice(nil, edits)), nil
}

// getter returns a Get that looks names up in a map, for callers that ask for many.
func (d *Doc) getter() func(name string) ([]byte, Kind, bool) {
	last := make(map[string]*Member, len(d.members))
	for i := range d.members {
		last[d.members[i].Name] = &d.members[i]
	}
	return func(name string) ([]byte, Kind, bool) {
		m, ok := last[name]
		if !ok {
			return nil, Invalid, false
		}
		return d.value(m), m.Kind, true
	}
}

// trim drops the white space around a value, which is not part of it.
func trim(p []byte) []byte { return bytes.Trim(p, " \t\r\n") }
