// Package seal encrypts the secret members of stored documents and opens them again.
// It knows ciphers, keyrings and dotted member paths; which members of which document
// are secret, and where documents are stored, it does not know.
package seal

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/gosix/gosix/pkg/jsonedit"
)

// Formats of sealed values (spec/00 6).
const (
	GCM = "gcm" // AES-256-GCM, random nonce, the item's key as associated data
	CBC = "cbc" // the reference's: AES-CBC with the key as initialisation vector
)

// prefix marks a GCM value.
const prefix = "sealed:v1:"

// IsSealed tells whether a text has the form of a GCM value, whoever sealed it. Seal does
// not look: who wants nothing sealed twice asks first.
func IsSealed(value string) bool {
	text, marked := strings.CutPrefix(value, prefix)
	if !marked {
		return false
	}
	raw, err := base64.StdEncoding.DecodeString(text)
	return err == nil && len(raw) >= nonceSize+tagSize
}

// MayHold tells whether a document may have GCM values. It costs no more than to look for a
// text; only what it says yes to needs a look at members.
func MayHold(doc []byte) bool { return bytes.Contains(doc, []byte(prefix)) }

// Of GCM as Go has it.
const nonceSize, tagSize = 12, 16

// Ring is a keyring: the first key seals, all open. nil seals nothing and opens
// nothing, so that values stay as they are. It is safe for concurrent use.
type Ring struct {
	format string
	gcm    []cipher.AEAD
	cbc    []cbcKey
}

type cbcKey struct {
	block cipher.Block
	iv    []byte
}

// New returns a ring of keys, each of 16 or 32 bytes; no keys make a nil ring.
func New(keys []string, format string) (*Ring, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	r := &Ring{format: format}
	switch format {
	case "":
		r.format = GCM
	case GCM, CBC:
	default:
		return nil, fmt.Errorf("unknown format %q, one of gcm, cbc", format)
	}
	for i, k := range keys {
		if len(k) != 16 && len(k) != 32 {
			return nil, fmt.Errorf("keyring[%d]: %d bytes, must be 16 or 32", i, len(k))
		}
		// The two formats must not share a key: what one reveals would help with the other.
		derived, err := hkdf.Key(sha256.New, []byte(k), nil, "gosix sealed members v1", 32)
		if err != nil {
			return nil, fmt.Errorf("keyring[%d]: %w", i, err)
		}
		wide, err := aes.NewCipher(derived)
		if err != nil {
			return nil, fmt.Errorf("keyring[%d]: %w", i, err)
		}
		aead, err := cipher.NewGCM(wide)
		if err != nil {
			return nil, fmt.Errorf("keyring[%d]: %w", i, err)
		}
		block, err := aes.NewCipher([]byte(k))
		if err != nil {
			return nil, fmt.Errorf("keyring[%d]: %w", i, err)
		}
		r.gcm = append(r.gcm, aead)
		r.cbc = append(r.cbc, cbcKey{block, []byte(k)[:aes.BlockSize]})
	}
	return r, nil
}

// Format is that of what Seal makes; "" if it leaves values as they are.
func (r *Ring) Format() string {
	if r == nil {
		return ""
	}
	return r.format
}

// Seal encrypts a value of the item stored under key (below the store's prefix).
func (r *Ring) Seal(key, plain string) string {
	if r == nil {
		return plain
	}
	if r.format == CBC {
		return r.cbc[0].seal(plain)
	}
	nonce := make([]byte, nonceSize, nonceSize+len(plain)+tagSize)
	_, _ = rand.Read(nonce) // documented never to fail
	return prefix + base64.StdEncoding.EncodeToString(r.gcm[0].Seal(nonce, nonce, []byte(plain), []byte(key)))
}

// Open returns the plain value of what Seal made of it, in either format. A value that
// no key opens is returned as it is (spec/01 §8).
func (r *Ring) Open(key, value string) string {
	if r == nil {
		return value
	}
	if text, sealed := strings.CutPrefix(value, prefix); sealed {
		raw, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return value
		}
		for _, aead := range r.gcm {
			if len(raw) < nonceSize {
				return value
			}
			if plain, err := aead.Open(nil, raw[:nonceSize], raw[nonceSize:], []byte(key)); err == nil {
				return string(plain)
			}
		}
		return value
	}
	raw, err := base64.StdEncoding.DecodeString(value)
	if err != nil || len(raw) == 0 || len(raw)%aes.BlockSize != 0 {
		return value
	}
	for _, k := range r.cbc {
		if plain, ok := k.open(raw); ok {
			return plain
		}
	}
	return value
}

func (k cbcKey) seal(plain string) string {
	pad := aes.BlockSize - len(plain)%aes.BlockSize
	raw := append([]byte(plain), bytes.Repeat([]byte{byte(pad)}, pad)...)
	cipher.NewCBCEncrypter(k.block, k.iv).CryptBlocks(raw, raw)
	return base64.StdEncoding.EncodeToString(raw)
}

func (k cbcKey) open(raw []byte) (string, bool) {
	plain := make([]byte, len(raw))
	cipher.NewCBCDecrypter(k.block, k.iv).CryptBlocks(plain, raw)
	pad := int(plain[len(plain)-1])
	if pad == 0 || pad > aes.BlockSize {
		return "", false
	}
	for _, b := range plain[len(plain)-pad:] {
		if int(b) != pad {
			return "", false
		}
	}
	plain = plain[:len(plain)-pad]
	// The format has no authentication: text that merely looks like base64 must not be
	// turned into rubbish when its padding happens to fit.
	if !utf8.Valid(plain) || strings.ContainsFunc(string(plain), func(c rune) bool { return c < ' ' && c != '\n' && c != '\r' && c != '\t' }) {
		return "", false
	}
	return string(plain), true
}

// MayLead tells whether a dotted path may lead to something in a document. Of an object it
// costs no more than to look for the last name of the path, unless names may be escaped.
func MayLead(doc []byte, path string) bool {
	if kindOf(doc) != '{' || bytes.IndexByte(doc, '\\') >= 0 {
		return true
	}
	return bytes.Contains(doc, []byte(`"`+path[strings.LastIndexByte(path, '.')+1:]+`"`))
}

// Members applies f to the strings at a dotted path of doc and returns the changed
// document; all other bytes stay. Every array on the way is walked through; the leaf may be
// a string, a list of strings or an object of strings (spec/01 §8). What is not there
// or has another shape is left alone. Where nothing changes doc itself is returned.
func Members(doc []byte, path string, f func(string) string) ([]byte, error) {
	return walk(doc, strings.Split(path, "."), f)
}

func walk(raw []byte, path []string, f func(string) string) ([]byte, error) {
	kind := kindOf(raw)
	if len(path) == 0 {
		switch kind {
		case '"':
			s, err := jsonedit.Unquote(raw)
			if err != nil {
				return nil, err
			}
			changed := f(s)
			if changed == s {
				return raw, nil
			}
			return jsonedit.AppendQuote(nil, changed), nil
		case '[':
			return eachElement(raw, func(e []byte) ([]byte, error) {
				if kindOf(e) != '"' {
					return e, nil
				}
				return walk(e, nil, f)
			})
		case '{':
			return eachMember(raw, func(_ string, v []byte) ([]byte, error) {
				if kindOf(v) != '"' {
					return v, nil
				}
				return walk(v, nil, f)
			})
		}
		return raw, nil
	}
	switch kind {
	case '[':
		return eachElement(raw, func(e []byte) ([]byte, error) { return walk(e, path, f) })
	case '{':
		return eachMember(raw, func(name string, v []byte) ([]byte, error) {
			if name != path[0] {
				return v, nil
			}
			return walk(v, path[1:], f)
		})
	}
	return raw, nil
}

func kindOf(raw []byte) byte {
	for _, b := range raw {
		if b != ' ' && b != '\t' && b != '\n' && b != '\r' {
			return b
		}
	}
	return 0
}

// indexes are used again: nobody keeps one.
var indexes = sync.Pool{New: func() any { return new(jsonedit.Doc) }}

// eachMember replaces the values of an object one by one. Splicing keeps the bytes of
// everything else. f must not keep the name.
func eachMember(raw []byte, f func(name string, value []byte) ([]byte, error)) ([]byte, error) {
	doc := indexes.Get().(*jsonedit.Doc)
	defer indexes.Put(doc)
	if err := doc.ReindexTrusted(raw); err != nil {
		return nil, err
	}
	defer doc.Forget()
	out, last := []byte(nil), 0
	for _, m := range doc.Members() {
		value := raw[m.Value.Start:m.Value.End]
		changed, err := f(m.Name, value)
		if err != nil {
			return nil, err
		}
		if bytes.Equal(changed, value) {
			continue
		}
		out = append(out, raw[last:m.Value.Start]...)
		out = append(out, changed...)
		last = m.Value.End
	}
	if last == 0 {
		return raw, nil
	}
	return append(out, raw[last:]...), nil
}

// eachElement replaces the elements of an array one by one and keeps what stands between
// them.
func eachElement(raw []byte, f func([]byte) ([]byte, error)) ([]byte, error) {
	var out []byte
	at, last := bytes.IndexByte(raw, '[')+1, 0
	err := jsonedit.Elements(raw, func(_ int, e []byte, _ jsonedit.Kind) error {
		start := at
		for strings.IndexByte(" \t\r\n,", raw[start]) >= 0 {
			start++
		}
		at = start + len(e)
		changed, err := f(e)
		if err != nil || bytes.Equal(changed, e) {
			return err
		}
		out = append(append(out, raw[last:start]...), changed...)
		last = at
		return nil
	})
	if err != nil {
		return nil, err
	}
	if last == 0 {
		return raw, nil
	}
	return append(out, raw[last:]...), nil
}
