// Package certificate compiles what is stored of TLS servers (kind ssls, type server) into
// what a handshake needs: the certificates to show, and what is asked of the client. It
// does not know which name a client asks for, where connections come from, nor what a
// refused client is answered.
package certificate

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"slices"

	"github.com/gosix/gosix/pkg/resource"
	"github.com/gosix/gosix/pkg/schema"
	"github.com/gosix/gosix/pkg/tlsname"
)

// Settings are what a node gives every server. The zero value: TLS 1.2 and 1.3, the suites
// of crypto/tls, and no session is resumed.
type Settings struct {
	Versions []uint16 // where the stored item names none, ascending
	Suites   []uint16 // of TLS 1.2 and older
	Tickets  *Tickets // nil: clients get none
}

// Server is what is stored of one TLS server, compiled. It is immutable and safe for
// concurrent use.
type Server struct {
	ID     string
	Names  []string // in lower case, without a dot at the end: "a.test", "*.a.test", "*"
	Client *Client  // what clients have to show; nil: nothing
	spans  []span   // newest first
}

// span is a run of versions without a gap, which is all that a tls.Config can say.
type span struct {
	min, max    uint16
	http1, both *tls.Config
}

// Compile makes a server of a stored item of type server. What resource.DecodeSSL accepts
// fails only for a reference, since nothing resolves those.
func Compile(s *resource.SSL, set Settings) (*Server, error) {
	out := &Server{ID: s.ID, Names: s.SNIs}
	pairs, err := load(s)
	if err != nil {
		return nil, err
	}
	// binding names all that a session was made under: one that is resumed must not have
	// been made under anything else.
	binding := sha256.New()
	_, _ = fmt.Fprintf(binding, "%q", s.ID) // hashes never fail
	for _, p := range pairs {
		for _, der := range p.Certificate {
			_, _ = fmt.Fprintf(binding, "%x,", sha256.Sum256(der))
		}
	}
	base := &tls.Config{GetCertificate: choice(pairs), CipherSuites: set.Suites}
	if s.Client != nil {
		if out.Client, err = compileClient(s.Client); err != nil {
			return nil, err
		}
		_, _ = binding.Write([]byte(out.Client.key))
		out.Client.ask(base)
	}
	set.Tickets.use(base, binding.Sum(nil))
	for _, versions := range runs(s.Protocols, set.Versions) {
		one := span{min: versions[0], max: versions[len(versions)-1]}
		one.http1 = base.Clone()
		one.http1.MinVersion, one.http1.MaxVersion = one.min, one.max
		one.http1.NextProtos = []string{"http/1.1"}
		one.both = one.http1.Clone()
		one.both.NextProtos = []string{"h2", "http/1.1"}
		out.spans = append(out.spans, one)
	}
	return out, nil
}

// Config returns the configuration for a client that speaks these versions. With http2 the
// client may choose HTTP/2.
func (s *Server) Config(versions []uint16, http2 bool) *tls.Config {
	one := s.spans[0] // of a client that speaks none, which is told so by its handshake
	for _, o := range s.spans {
		if slices.ContainsFunc(versions, func(v uint16) bool { return o.min <= v && v <= o.max }) {
			one = o
			break
		}
	}
	if http2 {
		return one.both
	}
	return one.http1
}

// runs are the versions that names stand for, or else the node's, in runs without a gap,
// the newest run first.
func runs(names []string, own []uint16) [][]uint16 {
	versions := slices.Clone(own)
	if len(names) > 0 {
		versions = nil
		for _, name := range names {
			if v, ok := tlsname.Version(name); ok {
				versions = append(versions, v)
			}
		}
	}
	if len(versions) == 0 {
		versions = []uint16{tls.VersionTLS12, tls.VersionTLS13}
	}
	slices.Sort(versions)
	var all [][]uint16
	for i, v := range versions {
		if i > 0 && v-versions[i-1] <= 1 {
			all[0] = append(all[0], v)
		} else {
			all = slices.Insert(all, 0, []uint16{v})
		}
	}
	return all
}

// load reads all pairs of an item.
func load(s *resource.SSL) ([]tls.Certificate, error) {
	pairs := make([]tls.Certificate, 0, 1+len(s.Certs))
	for i := range 1 + len(s.Certs) {
		cert, key, name := s.Cert, s.Key, "cert, key"
		if i > 0 {
			cert, key, name = s.Certs[i-1], s.Keys[i-1], fmt.Sprintf("certs[%d], keys[%[1]d]", i-1)
		}
		if schema.IsReference(cert) || schema.IsReference(key) {
			return nil, fmt.Errorf("%s: a reference that is not resolved", name)
		}
		pair, err := tls.X509KeyPair([]byte(cert), []byte(key))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		pairs = append(pairs, pair)
	}
	// As the reference has it, of two certificates with one kind of key the later counts.
	slices.Reverse(pairs)
	slices.SortStableFunc(pairs, func(a, b tls.Certificate) int { return cmp.Compare(rank(&a), rank(&b)) })
	return pairs, nil
}

// rank puts the kinds of keys in the order in which they are offered: the cheapest for both
// sides first. Every client speaks RSA.
func rank(pair *tls.Certificate) int {
	switch pair.Leaf.PublicKey.(type) {
	case *ecdsa.PublicKey:
		return 0
	case ed25519.PublicKey:
		return 1
	}
	return 2
}

// choice returns the first certificate that a client can work with. crypto/tls's own choice
// would also look at the names in the certificates, but which certificate is for which name
// is what the item says.
func choice(pairs []tls.Certificate) func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		nameless := *hello
		nameless.ServerName = ""
		for i := range pairs[:len(pairs)-1] {
			if nameless.SupportsCertificate(&pairs[i]) == nil {
				return &pairs[i], nil
			}
		}
		return &pairs[len(pairs)-1], nil
	}
}

// parse returns the certificates in a PEM text.
func parse(text string) *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(text))
	return pool
}
