package route

import (
	"cmp"
	"slices"
	"strings"

	"github.com/gosix/gosix/pkg/certificate"
	"github.com/gosix/gosix/pkg/resource"
)

// longestName is the length of the longest name that the domain name system has, in bytes.
const longestName = 253

// serverNames is the index of TLS servers by the names that clients ask for: whole ones, and
// what follows the asterisk of the others, backwards.
type serverNames struct {
	whole, ends tree[[]named]
	asking      int // number of servers that ask for a client's certificate
}

// named is a server under one of its names.
type named struct {
	server  *certificate.Server
	created int64
	key     string
}

// find returns the server of a whole name, or else of the longest wildcard that name ends
// in. A wildcard stands for one label or a part of it, and only "*" alone for everything;
// not ok: it would have to stand for more.
func (n *serverNames) find(name string) (server *certificate.Server, ok bool) {
	if list, ok := n.whole.get(name); ok {
		return list[0].server, true
	}
	length, list, found := n.ends.longest(backwards(name))
	if !found {
		return nil, false
	}
	return list[0].server, length == 0 || strings.IndexByte(name[:len(name)-length], '.') < 0
}

// Certificate returns the server for the name that a TLS client asks for, in lower case and
// without a dot at the end; nil if there is none. Of several items with one name the first
// that was created counts.
//
// "*.a.test" stands in the way of "*": x.y.a.test is nobody's. Whoever asks for a client's
// certificate under the one is not passed by through the other.
func (s *Snapshot) Certificate(name string) *certificate.Server {
	if name == "" || len(name) > longestName {
		return nil
	}
	if server, ok := s.names.find(name); ok {
		return server
	}
	return nil
}

// Asking returns what clients of a host have to show, nil if nothing. host is written as a
// name of Certificate is. A wildcard counts for all hosts that end in it, as it does for
// routes.
func (s *Snapshot) Asking(host string) *certificate.Client {
	if s.names.asking == 0 || host == "" {
		return nil
	}
	if server, _ := s.names.find(host); server != nil {
		return server.Client
	}
	return nil
}

func backwards(name string) string {
	p := []byte(name)
	slices.Reverse(p)
	return string(p)
}

// compileServer returns what handshakes need of a stored certificate; nil if it is none of
// a server or switched off.
func (w *build) compileServer(s *resource.SSL) (*certificate.Server, error) {
	if s.Type != "server" || s.Status != 1 {
		return nil, nil
	}
	return certificate.Compile(s, w.env.TLS)
}

// indexServers brings the index of names up to date.
func (w *build) indexServers() {
	stale := w.stale["ssls"]
	if len(stale) == 0 {
		return
	}
	whole, ends, asking := w.prev.names.whole.edit(), w.prev.names.ends.edit(), w.prev.names.asking
	each := func(o *object, by int, change func(list []named, one named) []named) {
		if o == nil || o.server == nil {
			return
		}
		one := named{o.server, o.item.CreateRevision, o.rest}
		if o.server.Client != nil {
			asking += by
		}
		for _, name := range o.server.Names {
			index, key := &whole, name
			if end, wild := strings.CutPrefix(name, "*"); wild {
				index, key = &ends, backwards(end)
			}
			list, _ := index.get(key)
			if list = change(list, one); len(list) == 0 {
				index.del(key)
			} else {
				index.set(key, list)
			}
		}
	}
	for _, rest := range stale {
		before, _ := w.prev.objects.get(rest)
		now, _ := w.next.objects.get(rest)
		if before == now {
			continue
		}
		// Lists are shared with other snapshots: both make new ones.
		each(before, -1, func(list []named, one named) []named {
			return slices.DeleteFunc(slices.Clone(list), func(n named) bool { return n.key == one.key })
		})
		each(now, 1, func(list []named, one named) []named {
			list = append(slices.DeleteFunc(slices.Clone(list), func(n named) bool { return n.key == one.key }), one)
			slices.SortFunc(list, func(a, b named) int {
				return cmp.Or(cmp.Compare(a.created, b.created), strings.Compare(a.key, b.key))
			})
			return list
		})
	}
	w.next.names = serverNames{whole.commit(), ends.commit(), asking}
}
