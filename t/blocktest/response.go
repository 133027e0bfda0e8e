package blocktest

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// response is an answer as Test::Nginx parses it.
type response struct {
	code       string // "" when there was no status
	rawHeaders string // with the status line, up to the empty line
	fields     [][2]string
	body       string
	left       []byte // what came behind it on the connection
}

var (
	statusDigits = regexp.MustCompile(`^\d+$`)
	shortStatus  = regexp.MustCompile(`^\d{3} `)
	fieldLine    = regexp.MustCompile(`^([^\s:]+)[ \t]*: ?(.*)\n?`)
	foldedLine   = regexp.MustCompile(`^([ \t].*)\n?`)
	chunkHead    = regexp.MustCompile(`^[ \t]*([A-Fa-f0-9]+)[ \t]*\r\n`)
	lastChunk    = regexp.MustCompile(`^0[ \t]*\r\n`)
)

// parseResponse reads the first response of what was received. Its error is a body that is
// not valid; the response is then as far as it goes.
func parseResponse(raw []byte, head bool) (*response, error) {
	r := &response{}
	if end := bytes.Index(raw, []byte("\r\n\r\n")); end >= 0 {
		r.rawHeaders = string(raw[:end+2])
	}
	rest := string(raw)
	line, rest, _ := strings.Cut(rest, "\n")
	line = strings.TrimSuffix(line, "\r")
	if words := strings.Fields(line); shortStatus.MatchString(line) {
		r.code = words[0]
	} else if len(words) > 1 {
		r.code = words[1]
	}
	if !statusDigits.MatchString(r.code) {
		r.code = ""
	}
	rest = r.readFields(rest)
	if r.code == "304" || r.code == "101" {
		r.body = rest
		return r, nil
	}
	if encoding, ok := r.field("Transfer-Encoding"); ok && encoding == "chunked" {
		return r, r.readChunks(rest, head)
	}
	r.body = rest
	if length, ok := r.field("Content-Length"); ok {
		if n, err := strconv.Atoi(strings.TrimSpace(length)); err == nil && n >= 0 && n < len(rest) {
			r.body, r.left = rest[:n], []byte(rest[n:])
		}
	}
	return r, nil
}

func (r *response) readFields(rest string) string {
	for {
		if m := fieldLine.FindStringSubmatch(rest); m != nil {
			r.fields = append(r.fields, [2]string{m[1], strings.TrimSuffix(m[2], "\r")})
			rest = rest[len(m[0]):]
		} else if m := foldedLine.FindStringSubmatch(rest); m != nil && len(r.fields) > 0 {
			r.fields[len(r.fields)-1][1] += "\n" + strings.TrimSuffix(m[1], "\r")
			rest = rest[len(m[0]):]
		} else {
			return strings.TrimPrefix(strings.TrimPrefix(rest, "\r"), "\n")
		}
	}
}

// field returns the values of a header, joined. An underscore in name is a dash.
func (r *response) field(name string) (string, bool) {
	var values []string
	name = strings.ReplaceAll(name, "_", "-")
	for _, f := range r.fields {
		if strings.EqualFold(strings.ReplaceAll(f[0], "_", "-"), name) {
			values = append(values, f[1])
		}
	}
	return strings.Join(values, ", "), len(values) > 0
}

// readChunks decodes a chunked body. The errors are what Test::Nginx fails a block for.
func (r *response) readChunks(raw string, head bool) error {
	if head && raw == "" {
		return nil
	}
	trailer, hasTrailer := r.field("Trailer")
	var body strings.Builder
	defer func() { r.body = body.String() }() // what came of it, if it is not valid
	for {
		if m := lastChunk.FindString(raw); m != "" {
			raw = raw[len(m):]
			if hasTrailer {
				var ok bool
				if raw, ok = skipTrailer(raw, trailer); !ok {
					return fmt.Errorf("a trailer that is not the announced %s", trailer)
				}
			}
			if !strings.HasPrefix(raw, "\r\n") {
				return errors.New("a last chunk without its empty line")
			}
			r.left = []byte(raw[2:])
			return nil
		}
		m := chunkHead.FindStringSubmatch(raw)
		if m == nil {
			if raw == "" {
				return errors.New("a chunked body without its last chunk")
			}
			return fmt.Errorf("a chunked body that goes on with %q", raw[:min(len(raw), 40)])
		}
		n, err := strconv.ParseInt(m[1], 16, 32)
		raw = raw[len(m[0]):]
		if err != nil || int(n) > len(raw) {
			return errors.New("a chunk with fewer bytes than it says")
		}
		body.WriteString(raw[:n])
		if raw = raw[n:]; !strings.HasPrefix(raw, "\r\n") {
			return errors.New("a chunk without its CRLF")
		}
		raw = raw[2:]
	}
}

func skipTrailer(raw, names string) (string, bool) {
	for name := range strings.SplitSeq(names, ",") {
		line, rest, ok := strings.Cut(raw, "\r\n")
		if !ok || !strings.HasPrefix(strings.ToLower(line), strings.ToLower(strings.TrimSpace(name))+": ") {
			return raw, false
		}
		raw = rest
	}
	return raw, true
}
