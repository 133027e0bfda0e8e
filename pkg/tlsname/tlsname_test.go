package tlsname

import (
	"crypto/tls"
	"testing"
)

func TestNamesAreThereAndBack(t *testing.T) {
	for name, id := range versions {
		if got, ok := Version(name); !ok || got != id || OfVersion(id) != name {
			t.Errorf("%s: got %d, %v, and back %q", name, got, ok, OfVersion(id))
		}
	}
	seen := map[uint16]string{}
	for name, id := range suites {
		if got, ok := Suite(name); !ok || got != id || OfSuite(id) != name {
			t.Errorf("%s: got %d, %v, and back %q", name, got, ok, OfSuite(id))
		}
		if other, twice := seen[id]; twice {
			t.Errorf("%s and %s are one suite", name, other)
		}
		seen[id] = name
	}
}

func TestEverySuiteThatIsNotBrokenHasAName(t *testing.T) {
	for _, s := range tls.CipherSuites() {
		name := OfSuite(s.ID)
		of13 := len(s.SupportedVersions) == 1 && s.SupportedVersions[0] == tls.VersionTLS13
		if _, ok := Suite(name); ok == of13 || of13 && name != s.Name {
			t.Errorf("%s: got name %q, which stands for a suite: %v", s.Name, name, ok)
		}
	}
}

func TestWhatIsNotThereHasNoName(t *testing.T) {
	for _, name := range []string{"", "TLSv1.4", "SSLv3", "TLS 1.2", "tlsv1.2"} {
		if id, ok := Version(name); ok {
			t.Errorf("%q: got %d", name, id)
		}
	}
	for _, name := range []string{"", "HIGH", "!aNULL", "DHE-RSA-AES128-GCM-SHA256", "RC4-SHA", "TLS_AES_128_GCM_SHA256"} {
		if id, ok := Suite(name); ok {
			t.Errorf("%q: got %d", name, id)
		}
	}
	if got := OfVersion(0); got != "" {
		t.Errorf("version 0: got %q", got)
	}
}
