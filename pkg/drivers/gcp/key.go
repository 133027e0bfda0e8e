package gcp

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/gosix/gosix/pkg/exchange"
	"github.com/gosix/gosix/pkg/jsonedit"
	"github.com/gosix/gosix/pkg/upstream"
)

const (
	defaultTokenURI = "https://oauth2.googleapis.com/token"
	defaultScope    = "https://www.googleapis.com/auth/cloud-platform"
	grant           = "urn:ietf:params:oauth:grant-type:jwt-bearer"

	assertionTTL = time.Hour
	defaultTTL   = time.Hour // of a token whose answer does not say
	maxAnswer    = 64 << 10  // bytes of the token endpoint's
)

// key is a service account's key file. It is immutable.
type key struct {
	email, scope, uri string
	header            string // of assertions, encoded
	private           *rsa.PrivateKey

	target *upstream.Target // of the token endpoint
	host   string
	path   string
}

// secure is shared by all token endpoints; nothing changes it.
var secure = &tls.Config{MinVersion: tls.VersionTLS12}

// parse reads a key file.
func parse(text string) (*key, error) {
	if text == "" {
		return nil, errors.New("there is no service account: neither service_account_json nor GCP_SERVICE_ACCOUNT is set")
	}
	doc, err := jsonedit.Index([]byte(text), jsonedit.Options{})
	if err != nil {
		return nil, fmt.Errorf("invalid gcp service account json: %w", err)
	}
	k := &key{uri: defaultTokenURI, scope: scope(doc)}
	k.email, _ = doc.String("client_email")
	if uri, ok := doc.String("token_uri"); ok {
		k.uri = uri
	}
	header := []byte(`{"alg":"RS256","typ":"JWT"`)
	if id, ok := doc.String("private_key_id"); ok {
		header = jsonedit.AppendQuote(append(header, `,"kid":`...), id)
	}
	k.header = base64.RawURLEncoding.EncodeToString(append(header, '}'))
	if err := k.endpoint(); err != nil {
		return nil, err
	}
	secret, ok := doc.String("private_key")
	if !ok {
		return nil, errors.New("gcp service account json has no private_key")
	}
	k.private, err = private(secret)
	return k, err
}

// scope is what a token is for: a text, or a list of them.
func scope(doc *jsonedit.Doc) string {
	if one, ok := doc.String("scope"); ok {
		return one
	}
	var list []string
	if raw, kind, ok := doc.Get("scope"); ok && kind == jsonedit.Array {
		_ = jsonedit.Elements(raw, func(_ int, e []byte, _ jsonedit.Kind) error {
			if one, err := jsonedit.Unquote(e); err == nil {
				list = append(list, one)
			}
			return nil
		})
	}
	if len(list) == 0 {
		return defaultScope
	}
	return strings.Join(list, " ")
}

func (k *key) endpoint() error {
	u, err := url.Parse(k.uri)
	if err != nil || u.Hostname() == "" || u.Scheme != "https" && u.Scheme != "http" {
		return fmt.Errorf("gcp service account json: token_uri %q is no address", k.uri)
	}
	port := u.Port()
	// Tokens are rare: a connection kept for the next would be closed long before.
	k.target = &upstream.Target{NoKeepAlive: true}
	if u.Scheme == "https" {
		k.target.TLS, k.target.SNI = secure, u.Hostname()
	}
	switch {
	case port != "":
	case u.Scheme == "https":
		port = "443"
	default:
		port = "80"
	}
	k.target.Addr, k.host, k.path = net.JoinHostPort(u.Hostname(), port), u.Host, u.RequestURI()
	return nil
}

var errNoKey = errors.New("gcp service account json: private_key is no RSA key in PEM")

// private reads a key in PKCS #8, as key files have it, or PKCS #1.
func private(text string) (*rsa.PrivateKey, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, errNoKey
	}
	if any, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
		if k, ok := any.(*rsa.PrivateKey); ok {
			return k, nil
		}
		return nil, errNoKey
	}
	k, err := x509.ParsePKCS1PrivateKey(block.Bytes)
	if err != nil {
		return nil, errNoKey
	}
	return k, nil
}

// assertion returns what proves to the token endpoint who asks: a JWT signed with RS256.
func (k *key) assertion(now time.Time) (string, error) {
	claims := jsonedit.AppendQuote([]byte(`{"iss":`), k.email)
	claims = jsonedit.AppendQuote(append(claims, `,"scope":`...), k.scope)
	claims = jsonedit.AppendQuote(append(claims, `,"aud":`...), k.uri)
	claims = strconv.AppendInt(append(claims, `,"iat":`...), now.Unix(), 10)
	claims = strconv.AppendInt(append(claims, `,"exp":`...), now.Add(assertionTTL).Unix(), 10)
	text := k.header + "." + base64.RawURLEncoding.EncodeToString(append(claims, '}'))
	sum := sha256.Sum256([]byte(text))
	signature, err := rsa.SignPKCS1v15(nil, k.private, crypto.SHA256, sum[:])
	if err != nil {
		return "", fmt.Errorf("sign with the service account's key: %w", err)
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(signature), nil
}

// exchange gets a token and how long it is good.
func (k *key) exchange(ctx context.Context, client *upstream.Client, now time.Time) (string, time.Duration, error) {
	assertion, err := k.assertion(now)
	if err != nil {
		return "", 0, err
	}
	form := url.Values{"grant_type": {grant}, "assertion": {assertion}}
	r := &upstream.Request{
		Target: k.target, Method: http.MethodPost, Path: k.path, Host: k.host, Header: &exchange.Header{}, Body: [][]byte{[]byte(form.Encode())},
	}
	r.Header.Add("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Add("Accept", "application/json")
	res, err := client.Do(ctx, r)
	if err != nil {
		return "", 0, fmt.Errorf("token endpoint: %w", err)
	}
	defer func() { _ = res.Close() }()
	body, err := io.ReadAll(io.LimitReader(res, maxAnswer))
	if err != nil {
		return "", 0, fmt.Errorf("token endpoint: %w", err)
	}
	doc, err := jsonedit.IndexTrusted(body)
	switch {
	case res.Status != http.StatusOK:
		return "", 0, fmt.Errorf("token endpoint answered %d%s", res.Status, reason(doc, err))
	case err != nil:
		return "", 0, fmt.Errorf("token endpoint: answer is no JSON: %w", err)
	}
	value, _ := doc.String("access_token")
	// What goes into a header must not end it.
	if value == "" || strings.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return "", 0, errors.New("token endpoint: answer has no access_token")
	}
	return value, lifetime(doc), nil
}

// lifetime is how long the token of an answer is good.
func lifetime(doc *jsonedit.Doc) time.Duration {
	raw, _, _ := doc.Get("expires_in")
	seconds, err := strconv.ParseInt(string(bytes.Trim(raw, `"`)), 10, 32)
	if err != nil || seconds <= 0 {
		return defaultTTL
	}
	return time.Duration(seconds) * time.Second
}

// reason words what an error answer says (RFC 6749 §5.2).
func reason(doc *jsonedit.Doc, unreadable error) string {
	if unreadable != nil {
		return ""
	}
	text := ""
	for _, name := range []string{"error", "error_description"} {
		if said, ok := doc.String(name); ok {
			text += ": " + said[:min(len(said), 200)]
		}
	}
	return text
}
