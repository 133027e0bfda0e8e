package bedrock

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/gosix/gosix/pkg/drivers"
	"github.com/gosix/gosix/pkg/exchange"
	"github.com/gosix/gosix/pkg/upstream"
)

const (
	algorithm = "AWS4-HMAC-SHA256"
	dateForm  = "20060102"
	timeForm  = "20060102T150405Z"
)

// scope is what a signature is good for, besides its day.
type scope struct{ region, service string }

var errBadKeys = errors.New("the keys have a character where none may be")

// sign signs a request with Signature Version 4. Signed are the method, the path, the query,
// the host, the body and the headers that sign adds; others that belong to a signature, a
// client's own, are taken out.
func sign(r *upstream.Request, keys *drivers.AWS, s scope, at time.Time) error {
	if !printable(keys.AccessKeyID) || !printable(keys.SessionToken) || !printable(s.region) {
		return errBadKeys
	}
	r.Header.DelFunc(func(f exchange.Field) bool {
		return exchange.EqualName(f.Name, "Authorization") || len(f.Name) > 6 && exchange.EqualName(f.Name[:6], "X-Amz-")
	})
	at = at.UTC()
	r.Header.Add("X-Amz-Date", at.Format(timeForm))
	if keys.SessionToken != "" {
		r.Header.Add("X-Amz-Security-Token", keys.SessionToken)
	}
	canonical, signed := canonicalRequest(r)
	sum := sha256.Sum256([]byte(canonical))
	credential := at.Format(dateForm) + "/" + s.region + "/" + s.service + "/aws4_request"
	text := algorithm + "\n" + at.Format(timeForm) + "\n" + credential + "\n" + hex.EncodeToString(sum[:])
	key := []byte("AWS4" + keys.SecretAccessKey)
	for _, part := range strings.Split(credential, "/") {
		key = mac(key, part)
	}
	r.Header.Add("Authorization", algorithm+" Credential="+keys.AccessKeyID+"/"+credential+
		", SignedHeaders="+signed+", Signature="+hex.EncodeToString(mac(key, text)))
	return nil
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

// canonicalRequest is the text that is signed, and the names of the headers in it. The path
// is encoded once more than on the wire: every service but S3 asks for that.
func canonicalRequest(r *upstream.Request) (text, signed string) {
	path, query, _ := strings.Cut(r.Path, "?")
	var b strings.Builder
	b.WriteString(r.Method + "\n" + segments(path, encode) + "\n" + canonicalQuery(query) + "\n")
	names := make([]string, 0, 4)
	header := func(name, value string) {
		names = append(names, name)
		b.WriteString(name + ":" + strings.Join(strings.Fields(value), " ") + "\n")
	}
	// In the order of their names.
	if r.Header.Has("Content-Type") {
		header("content-type", r.Header.Get("Content-Type"))
	}
	header("host", r.Host)
	header("x-amz-date", r.Header.Get("X-Amz-Date"))
	if r.Header.Has("X-Amz-Security-Token") {
		header("x-amz-security-token", r.Header.Get("X-Amz-Security-Token"))
	}
	signed = strings.Join(names, ";")
	body := sha256.New()
	for _, p := range r.Body {
		body.Write(p)
	}
	b.WriteString("\n" + signed + "\n" + hex.EncodeToString(body.Sum(nil)))
	return b.String(), signed
}

// canonicalQuery orders arguments by name, then value, both encoded.
func canonicalQuery(raw string) string {
	if raw == "" {
		return ""
	}
	var list [][2]string
	for _, pair := range strings.Split(raw, "&") {
		if pair != "" {
			name, value, _ := strings.Cut(pair, "=")
			list = append(list, [2]string{encode(decode(name)), encode(decode(value))})
		}
	}
	slices.SortFunc(list, func(a, b [2]string) int { return slices.Compare(a[:], b[:]) })
	var b strings.Builder
	for n, pair := range list {
		if n > 0 {
			b.WriteByte('&')
		}
		b.WriteString(pair[0] + "=" + pair[1])
	}
	return b.String()
}

// decode takes the encoding off; what is none stays as it is.
func decode(s string) string {
	if plain, err := url.PathUnescape(s); err == nil {
		return plain
	}
	return s
}

// segments applies f to every segment of a path.
func segments(path string, f func(string) string) string {
	list := strings.Split(path, "/")
	for n := range list {
		list[n] = f(list[n])
	}
	return strings.Join(list, "/")
}

// encodeOnce encodes a segment that may be encoded already.
func encodeOnce(segment string) string { return encode(decode(segment)) }

// encode encodes what AWS does not let stand: everything but letters, digits and "-._~".
func encode(s string) string {
	const hexDigits = "0123456789ABCDEF"
	var b strings.Builder
	for n := range len(s) {
		switch c := s[n]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '.', c == '_', c == '~':
			b.WriteByte(c)
		default:
			b.WriteByte('%')
			b.WriteByte(hexDigits[c>>4])
			b.WriteByte(hexDigits[c&15])
		}
	}
	return b.String()
}

// printable reports whether a text can stand in a header.
func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f })
}
