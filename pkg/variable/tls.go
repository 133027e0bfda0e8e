package variable

import (
	"crypto/sha1" //nolint:gosec // what nginx calls the fingerprint is that of SHA-1
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/gosix/gosix/pkg/exchange"
)

func ofTLS(get func(*tls.ConnectionState) Value) Getter {
	return func(x *exchange.Exchange) Value {
		if x.Request.TLS == nil {
			return Value{}
		}
		return get(x.Request.TLS)
	}
}

// ofClient asks the certificate that the client showed.
func ofClient(get func(*x509.Certificate) string) Getter {
	return ofTLS(func(s *tls.ConnectionState) Value {
		if len(s.PeerCertificates) == 0 {
			return Value{}
		}
		return Some(get(s.PeerCertificates[0]))
	})
}

func clientVerify(x *exchange.Exchange) Value { return Some(x.Request.ClientVerify) }

func sessionReused(s *tls.ConnectionState) Value {
	if s.DidResume {
		return Text("r")
	}
	return Text(".")
}

// distinguished is a name as RFC 2253 writes it. The parsed form of crypto/x509 has lost
// the order of its parts.
func distinguished(raw []byte) string {
	var name pkix.RDNSequence
	if rest, err := asn1.Unmarshal(raw, &name); err != nil || len(rest) > 0 {
		return ""
	}
	return name.String()
}

func serial(c *x509.Certificate) string {
	if c.SerialNumber == nil {
		return ""
	}
	text := strings.ToUpper(c.SerialNumber.Text(16))
	if len(text)%2 == 1 {
		return "0" + text
	}
	return text
}

func fingerprint(c *x509.Certificate) string {
	sum := sha1.Sum(c.Raw) //nolint:gosec // see the import
	return fmt.Sprintf("%x", sum)
}

func certTime(t time.Time) string { return t.UTC().Format("Jan _2 15:04:05 2006 GMT") }

// daysLeft is 0 once the time has come.
func daysLeft(end time.Time) string {
	return strconv.FormatInt(int64(max(time.Until(end), 0)/(24*time.Hour)), 10)
}

func pemOf(c *x509.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
}

// escapedCert is a certificate that a header can carry. Of the characters of PEM these alone
// are none of a URI component.
func escapedCert(text string) string {
	return strings.NewReplacer("\n", "%0A", " ", "%20", "+", "%2B", "/", "%2F", "=", "%3D").Replace(text)
}
