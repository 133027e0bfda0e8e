package exchange

import "strings"

// A Field is one header line.
type Field struct{ Name, Value string }

// Header is an ordered list of header fields. Names keep the case they came in and are
// compared without it. The zero value is an empty header. Not safe for concurrent use.
type Header struct{ fields []Field }

// Fields returns the fields in order. The slice is the header's own: it may be read
// until the next change.
func (h *Header) Fields() []Field { return h.fields }

// Len is the number of fields.
func (h *Header) Len() int { return len(h.fields) }

// Get returns the first value of name, "" if there is none. It does not allocate.
func (h *Header) Get(name string) string {
	fields := h.fields
	for i := range fields {
		if f := &fields[i]; len(f.Name) == len(name) && EqualName(f.Name, name) { // nearly all differ by their length
			return f.Value
		}
	}
	return ""
}

// Has reports whether a field of that name is present.
func (h *Header) Has(name string) bool {
	fields := h.fields
	for i := range fields {
		if f := &fields[i]; len(f.Name) == len(name) && EqualName(f.Name, name) {
			return true
		}
	}
	return false
}

// Count is the number of fields of that name.
func (h *Header) Count(name string) (n int) {
	for i := range h.fields {
		if EqualName(h.fields[i].Name, name) {
			n++
		}
	}
	return n
}

// Joined returns all values of name joined by ", ". It allocates only when there are several.
func (h *Header) Joined(name string) string {
	first, n := "", 0
	for i := range h.fields {
		if EqualName(h.fields[i].Name, name) {
			if n++; n == 1 {
				first = h.fields[i].Value
			} else {
				first += ", " + h.fields[i].Value
			}
		}
	}
	return first
}

// Add appends a field.
func (h *Header) Add(name, value string) {
	h.fields = append(h.fields, Field{name, value})
}

// Append adds fields, in their order.
func (h *Header) Append(fields []Field) { h.fields = append(h.fields, fields...) }

// Set replaces the first field of that name, removes the others, or appends one.
func (h *Header) Set(name, value string) {
	for i := range h.fields {
		if EqualName(h.fields[i].Name, name) {
			h.fields[i].Value = value
			h.drop(i+1, name)
			return
		}
	}
	h.Add(name, value)
}

// Del removes every field of that name.
func (h *Header) Del(name string) { h.drop(0, name) }

// DelFunc removes the fields for which drop says so.
func (h *Header) DelFunc(drop func(f Field) bool) {
	kept := h.fields[:0]
	for _, f := range h.fields {
		if !drop(f) {
			kept = append(kept, f)
		}
	}
	clear(h.fields[len(kept):])
	h.fields = kept
}

// Reset removes all fields and keeps the memory.
func (h *Header) Reset() {
	clear(h.fields)
	h.fields = h.fields[:0]
}

func (h *Header) drop(from int, name string) {
	kept := from
	for i := from; i < len(h.fields); i++ {
		if !EqualName(h.fields[i].Name, name) {
			h.fields[kept] = h.fields[i]
			kept++
		}
	}
	clear(h.fields[kept:])
	h.fields = h.fields[:kept]
}

// EqualName compares two header names without regard to ASCII case.
func EqualName(a, b string) bool {
	// Lengths or first letters differ for nearly all pairs, and those that are the same are
	// spelled alike.
	return len(a) == len(b) && (a == "" || (a[0]^b[0])&^0x20 == 0 && (a == b || equalFold(a, b)))
}

// equalFold compares two names of one length. Beyond ASCII only what is the same is equal: no
// name has that.
func equalFold(a, b string) bool {
	for i := range len(a) {
		c, d := a[i], b[i]
		if c == d {
			continue
		}
		if c |= 0x20; c != d|0x20 || c < 'a' || c > 'z' {
			return false
		}
	}
	return true
}

// HopByHop reports whether a field concerns one connection only (RFC 9110 §7.6.1) and
// so is never forwarded. Fields named by Connection are the caller's to find.
func HopByHop(name string) bool {
	switch len(name) {
	case 2:
		return EqualName(name, "TE")
	case 7:
		return EqualName(name, "Upgrade") || EqualName(name, "Trailer")
	case 10:
		return EqualName(name, "Connection") || EqualName(name, "Keep-Alive")
	case 16:
		return EqualName(name, "Proxy-Connection")
	case 17:
		return EqualName(name, "Transfer-Encoding")
	case 18:
		return EqualName(name, "Proxy-Authenticate")
	case 19:
		return EqualName(name, "Proxy-Authorization")
	}
	return false
}

// NamedByConnection reports whether a Connection field of h names that field.
func (h *Header) NamedByConnection(name string) bool {
	for i := range h.fields {
		if !EqualName(h.fields[i].Name, "Connection") {
			continue
		}
		rest := h.fields[i].Value
		for rest != "" {
			var token string
			token, rest, _ = strings.Cut(rest, ",")
			if EqualName(strings.Trim(token, " \t"), name) {
				return true
			}
		}
	}
	return false
}
