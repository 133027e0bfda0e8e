package nginx

import (
	"net/url"
	"strings"
)

// splitTarget makes of a request's target the decoded, normalised path and the raw query.
func splitTarget(target string) (path, query string, ok bool) {
	if rest, absolute := cutScheme(target); absolute {
		_, after, found := strings.Cut(rest, "/")
		if target = "/" + after; !found {
			target = "/"
		}
	}
	raw, query, _ := strings.Cut(target, "?")
	raw, _, _ = strings.Cut(raw, "#")
	if !strings.HasPrefix(raw, "/") {
		return "", "", false
	}
	path, err := url.PathUnescape(raw)
	if err != nil || strings.IndexByte(path, 0) >= 0 {
		return "", "", false
	}
	path, ok = normalise(path)
	return path, query, ok
}

func cutScheme(target string) (rest string, ok bool) {
	for _, scheme := range []string{"http://", "https://"} {
		if len(target) >= len(scheme) && strings.EqualFold(target[:len(scheme)], scheme) {
			return target[len(scheme):], true
		}
	}
	return target, false
}

// normalise resolves "." and ".." and joins slashes, as nginx does before it looks for a
// location. false: the path leaves the root.
func normalise(path string) (string, bool) {
	parts := strings.Split(path[1:], "/")
	out := make([]string, 0, len(parts))
	for i, part := range parts {
		last := i == len(parts)-1
		switch part {
		case "..":
			if len(out) == 0 {
				return "", false
			}
			out = out[:len(out)-1]
		case ".", "":
		default:
			out = append(out, part)
			continue
		}
		if last {
			out = append(out, "") // a directory stays one
		}
	}
	return "/" + strings.Join(out, "/"), true
}

// escapePath is the other way round, for what goes to an upstream.
func escapePath(path string) string {
	return (&url.URL{Path: path}).EscapedPath()
}
