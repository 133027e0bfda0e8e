// Package tlsname has the names by which OpenSSL, and with it the reference, knows what
// crypto/tls numbers: protocol versions and cipher suites. It does not know who speaks TLS
// or what is allowed.
package tlsname

import "crypto/tls"

var versions = map[string]uint16{
	"TLSv1": tls.VersionTLS10, "TLSv1.1": tls.VersionTLS11, "TLSv1.2": tls.VersionTLS12, "TLSv1.3": tls.VersionTLS13,
}

// Version returns the protocol version of a name, "TLSv1.2".
func Version(name string) (id uint16, ok bool) {
	id, ok = versions[name]
	return id, ok
}

// OfVersion returns the name of a protocol version; "" if it has none.
func OfVersion(id uint16) string {
	for name, v := range versions {
		if v == id {
			return name
		}
	}
	return ""
}

// suites are those before TLS 1.3 that crypto/tls has, but for RC4 and 3DES, which nobody
// should speak. The names of TLS 1.3 are the same in both worlds.
var suites = map[string]uint16{
	"ECDHE-ECDSA-AES128-GCM-SHA256": tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
	"ECDHE-RSA-AES128-GCM-SHA256":   tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
	"ECDHE-ECDSA-AES256-GCM-SHA384": tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
	"ECDHE-RSA-AES256-GCM-SHA384":   tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
	"ECDHE-ECDSA-CHACHA20-POLY1305": tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
	"ECDHE-RSA-CHACHA20-POLY1305":   tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
	"ECDHE-ECDSA-AES128-SHA256":     tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256,
	"ECDHE-RSA-AES128-SHA256":       tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256,
	"ECDHE-ECDSA-AES128-SHA":        tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA,
	"ECDHE-RSA-AES128-SHA":          tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA,
	"ECDHE-ECDSA-AES256-SHA":        tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA,
	"ECDHE-RSA-AES256-SHA":          tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA,
	"AES128-GCM-SHA256":             tls.TLS_RSA_WITH_AES_128_GCM_SHA256,
	"AES256-GCM-SHA384":             tls.TLS_RSA_WITH_AES_256_GCM_SHA384,
	"AES128-SHA256":                 tls.TLS_RSA_WITH_AES_128_CBC_SHA256,
	"AES128-SHA":                    tls.TLS_RSA_WITH_AES_128_CBC_SHA,
	"AES256-SHA":                    tls.TLS_RSA_WITH_AES_256_CBC_SHA,
}

// Suite returns the cipher suite of a name, "ECDHE-RSA-AES128-GCM-SHA256", for TLS 1.2 and
// older.
func Suite(name string) (id uint16, ok bool) {
	id, ok = suites[name]
	return id, ok
}

// OfSuite returns the name of a cipher suite of any version.
func OfSuite(id uint16) string {
	for name, s := range suites {
		if s == id {
			return name
		}
	}
	return tls.CipherSuiteName(id)
}
