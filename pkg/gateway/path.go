package gateway

import (
	"strings"
)

// pathOf returns the raw path of a request target: origin-form as it is, absolute-form
// without scheme and authority, "*" as "/".
func pathOf(target string) (string, bool) {
	path, _, _ := strings.Cut(target, "?")
	switch {
	case path == "":
		return "", false
	case path[0] == '/':
		return path, true
	case path == "*":
		return "/", true
	}
	_, rest, found := strings.Cut(path, "://")
	if !found {
		return "", false
	}
	if i := strings.IndexByte(rest, '/'); i >= 0 {
		return rest[i:], true
	}
	return "/", true
}

// CleanPath decodes a raw path and resolves it as routes match it (spec/03 §1): percent
// escapes decoded, slashes merged, dot segments resolved. It reports false for a bad
// escape, a zero byte and a path that leads above its root. A path that is clean
// already is returned as it is, without allocation.
func CleanPath(raw string) (string, bool) {
	if raw == "" || raw[0] != '/' {
		return "", false
	}
	if clean(raw) {
		return raw, true
	}
	decoded := make([]byte, 0, len(raw))
	for i := 0; i < len(raw); i++ {
		b := raw[i]
		if b == '%' {
			if i+2 >= len(raw) {
				return "", false
			}
			hi, ok1 := unhex(raw[i+1])
			lo, ok2 := unhex(raw[i+2])
			if !ok1 || !ok2 {
				return "", false
			}
			b = hi<<4 | lo
			i += 2
		}
		if b == 0 {
			return "", false
		}
		decoded = append(decoded, b)
	}
	return resolve(string(decoded))
}

// clean reports whether a path needs neither decoding nor resolving.
func clean(p string) bool {
	for i := range len(p) {
		switch b := p[i]; {
		case b > '/': // as letters and digits are
		case b == '%' || b == 0:
			return false
		case b == '/':
			if i+1 < len(p) && (p[i+1] == '/' || p[i+1] == '.') {
				return false
			}
		}
	}
	return true
}

// resolve merges slashes and resolves dot segments; false if the path leaves its root.
func resolve(p string) (string, bool) {
	out := make([]byte, 0, len(p))
	for rest := p[1:]; ; {
		segment, tail, more := strings.Cut(rest, "/")
		switch segment {
		case "", ".":
		case "..":
			if len(out) == 0 {
				return "", false
			}
			out = out[:strings.LastIndexByte(string(out), '/')]
		default:
			out = append(append(out, '/'), segment...)
		}
		if !more {
			// An empty, "." or ".." last segment leaves its slash.
			if segment == "" || segment == "." || segment == ".." {
				out = append(out, '/')
			}
			return string(out), true
		}
		rest = tail
	}
}

func unhex(b byte) (byte, bool) {
	switch {
	case '0' <= b && b <= '9':
		return b - '0', true
	case 'a' <= b && b <= 'f':
		return b - 'a' + 10, true
	case 'A' <= b && b <= 'F':
		return b - 'A' + 10, true
	}
	return 0, false
}

// keepSlashes returns the path for matching in which escaped slashes stay escaped, in
// upper case, provided that nothing but decoding made the clean path of the raw one
// (spec/03 §1 f); else the clean path.
func keepSlashes(raw, cleaned string) string {
	if !strings.Contains(raw, "%2F") && !strings.Contains(raw, "%2f") {
		return cleaned
	}
	kept := make([]byte, 0, len(raw))
	plain := make([]byte, 0, len(raw))
	for i := 0; i < len(raw); i++ {
		if raw[i] != '%' {
			kept, plain = append(kept, raw[i]), append(plain, raw[i])
			continue
		}
		hi, _ := unhex(raw[i+1])
		lo, _ := unhex(raw[i+2])
		b := hi<<4 | lo
		plain = append(plain, b)
		if b == '/' {
			kept = append(kept, "%2F"...)
		} else {
			kept = append(kept, b)
		}
		i += 2
	}
	if string(plain) != cleaned {
		return cleaned
	}
	return string(kept)
}

// servletPath drops the parameters of each segment (spec/03 §1 c). A segment that
// becomes a dot segment, or an empty one that is not the last, is refused.
func servletPath(p string) (string, bool) {
	if strings.IndexByte(p, ';') < 0 {
		return p, true
	}
	segments := strings.Split(p[1:], "/")
	for i, s := range segments {
		name, _, has := strings.Cut(s, ";")
		if !has {
			continue
		}
		switch strings.ToLower(name) {
		case ".", "..", "%2e", "%2e%2e":
			return "", false
		case "":
			if i < len(segments)-1 {
				return "", false
			}
		}
		segments[i] = name
	}
	return "/" + strings.Join(segments, "/"), true
}
