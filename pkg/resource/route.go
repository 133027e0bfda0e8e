package resource

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/gosix/gosix/pkg/jsonedit"
	"github.com/gosix/gosix/pkg/schema"
)

// Timeout limits the steps of one upstream attempt, in seconds, all above 0.
type Timeout struct {
	Connect, Send, Read float64
}

func decodeTimeout(v any) *Timeout {
	m := object(v)
	if len(m) == 0 {
		return nil
	}
	return &Timeout{Connect: number(m["connect"]), Send: number(m["send"]), Read: number(m["read"])}
}

// Route is a decoded route, immutable. Members that name other items are empty if absent. As
// of services and upstreams, what only people read is not kept: there are many. Nor is its id,
// for another reason: with it a route would stand among the maps of documents, and keep what
// memory they took in use once they are gone.
type Route struct {
	Name           string
	URIs           []string       // of uri or uris
	Hosts          []string       // of host or hosts, in lower case; none: any host
	Methods        []string       // none: any method
	RemoteAddrs    []netip.Prefix // of remote_addr or remote_addrs; none: any address
	Vars           json.RawMessage
	Priority       int
	Status         int // 1: in force, 0: switched off
	Plugins        Plugins
	PluginConfigID string
	ServiceID      string
	UpstreamID     string
	Upstream       *Upstream // inline, nil if absent
	// EnableWebsocket is nil if absent: a service may then say it.
	EnableWebsocket *bool
	Timeout         *Timeout // nil if absent
}

// DecodeRoute checks and decodes a stored route; id is what follows the directory in its
// key.
func DecodeRoute(itemID string, p []byte) (*Route, error) {
	return decodeRoute(itemID, p, jsonedit.Known{})
}

// DecodeNextRoute is DecodeRoute for the next version of a route: an inline upstream whose
// text has not changed is taken over from the version before, which saves most of the work.
// text is what is stored of that, its secrets sealed or not.
func DecodeNextRoute(itemID string, p []byte, before *Route, text []byte) (*Route, error) {
	u := before.Upstream
	if u == nil || u.TLS != nil { // which may have a secret: equal texts would not mean that it is equal
		return DecodeRoute(itemID, p)
	}
	raw, kind, _, err := jsonedit.Find(text, "upstream")
	if err != nil || kind != jsonedit.Object {
		return DecodeRoute(itemID, p)
	}
	return decodeRoute(itemID, p, jsonedit.Known{Name: "upstream", Text: raw, Value: schema.Judged{Value: u}})
}

func decodeRoute(itemID string, p []byte, known jsonedit.Known) (*Route, error) {
	d, err := loadKnown("routes", itemID, p, known)
	if err != nil {
		return nil, err
	}
	m := d.members
	r := &Route{
		Name:            text(m["name"]),
		URIs:            oneOrMany(m, "uri", "uris"),
		Hosts:           lowered(oneOrMany(m, "host", "hosts")),
		Methods:         texts(m["methods"]),
		Priority:        integer(m["priority"]),
		Status:          integer(m["status"]),
		PluginConfigID:  id(m["plugin_config_id"]),
		ServiceID:       id(m["service_id"]),
		UpstreamID:      id(m["upstream_id"]),
		EnableWebsocket: boolPointer(m["enable_websocket"]),
		Timeout:         decodeTimeout(m["timeout"]),
	}
	if r.RemoteAddrs, err = prefixes("remote_addr", oneOrMany(m, "remote_addr", "remote_addrs")); err != nil {
		return nil, err
	}
	if len(list(m["vars"])) > 0 {
		vars, err := d.raw("vars")
		if err != nil {
			return nil, err
		}
		if r.Vars, err = compact(vars); err != nil {
			return nil, err
		}
	}
	if r.Upstream, err = inlineUpstream(m); err != nil {
		return nil, err
	}
	r.Plugins, err = d.plugins()
	return r, err
}

func oneOrMany(m map[string]any, one, many string) []string {
	if v, ok := m[one]; ok {
		return []string{text(v)}
	}
	return texts(m[many])
}

// prefixes reads addresses with or without a length; the bits of the host are cleared.
func prefixes(member string, addrs []string) ([]netip.Prefix, error) {
	out := make([]netip.Prefix, 0, len(addrs))
	for _, s := range addrs {
		p, err := parsePrefix(s)
		if err != nil {
			return nil, fmt.Errorf("invalid %s: %s", member, s)
		}
		out = append(out, p)
	}
	return out, nil
}

func parsePrefix(s string) (netip.Prefix, error) {
	if strings.Contains(s, "/") {
		p, err := netip.ParsePrefix(s)
		return p.Masked(), err
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Prefix{}, err
	}
	return a.WithZone("").Prefix(a.BitLen())
}

// earlyRoute holds what the reference says before it looks at the schema.
func earlyRoute(doc any) error {
	m := object(doc)
	for _, pair := range [][2]string{{"host", "hosts"}, {"remote_addr", "remote_addrs"}} {
		_, one := m[pair[0]]
		_, many := m[pair[1]]
		if one && many {
			return fmt.Errorf("only one of %s or %s is allowed", pair[0], pair[1])
		}
	}
	return nil
}

func checkRoute(doc any) error {
	m := object(doc)
	if err := refuseLua(m); err != nil {
		return err
	}
	if _, err := prefixes("remote_addr", oneOrMany(m, "remote_addr", "remote_addrs")); err != nil {
		return err
	}
	return checkInlineUpstream(m)
}

// refuseLua refuses the members that carry Lua (spec/00 11).
func refuseLua(m map[string]any) error {
	for _, name := range []string{"filter_func", "script", "script_id"} {
		if _, ok := m[name]; ok {
			return fmt.Errorf("%s is not supported: Lua in configuration is refused", name)
		}
	}
	return nil
}

// Service is a decoded service, immutable: what its routes have in common.
type Service struct {
	ID              string
	Name            string
	Hosts           []string // in lower case
	Plugins         Plugins
	UpstreamID      string
	Upstream        *Upstream // inline, nil if absent
	EnableWebsocket *bool
}

// DecodeService checks and decodes a stored service.
func DecodeService(itemID string, p []byte) (*Service, error) {
	d, err := load("services", itemID, p)
	if err != nil {
		return nil, err
	}
	m := d.members
	s := &Service{
		ID: itemID, Name: text(m["name"]),
		Hosts:           lowered(texts(m["hosts"])),
		UpstreamID:      id(m["upstream_id"]),
		EnableWebsocket: boolPointer(m["enable_websocket"]),
	}
	if s.Upstream, err = inlineUpstream(m); err != nil {
		return nil, err
	}
	s.Plugins, err = d.plugins()
	return s, err
}

func checkService(doc any) error {
	m := object(doc)
	if err := refuseLua(m); err != nil {
		return err
	}
	return checkInlineUpstream(m)
}

// GraphQLCostDecoration weighs one field of a service's GraphQL schema.
type GraphQLCostDecoration struct {
	ID, ServiceID              string
	FieldPath                  string
	AddValue, MulValue         float64
	AddArguments, MulArguments []string
}

// DecodeGraphQLCostDecoration checks and decodes a stored decoration; id is
// "service/graphql_cost_decorations/decoration".
func DecodeGraphQLCostDecoration(itemID string, p []byte) (*GraphQLCostDecoration, error) {
	service, rest, _ := strings.Cut(itemID, "/")
	_, own, ok := strings.Cut(rest, "/")
	if !ok {
		return nil, errors.New("missing service id")
	}
	d, err := load("graphql_cost_decorations", itemID, p)
	if err != nil {
		return nil, err
	}
	m := d.members
	return &GraphQLCostDecoration{
		ID: own, ServiceID: service, FieldPath: text(m["field_path"]),
		AddValue: number(m["add_value"]), MulValue: number(m["mul_value"]),
		AddArguments: texts(m["add_arguments"]), MulArguments: texts(m["mul_arguments"]),
	}, nil
}

// StreamRoute is a decoded route of the stream proxy, immutable.
type StreamRoute struct {
	ID                     string
	Name, Desc             string
	Labels                 map[string]string
	RemoteAddr, ServerAddr *netip.Prefix // nil: any
	ServerPort             int           // 0: any
	SNI                    string        // in lower case
	Upstream               *Upstream
	UpstreamID, ServiceID  string
	Plugins                Plugins
	Protocol               *StreamProtocol // nil: plain TCP or UDP
}

// StreamProtocol is what a stream route speaks.
type StreamProtocol struct {
	Name       string
	SuperiorID string
	Conf       json.RawMessage // as stored
	Logger     json.RawMessage // as stored
}

// DecodeStreamRoute checks and decodes a stored stream route.
func DecodeStreamRoute(itemID string, p []byte) (*StreamRoute, error) {
	d, err := load("stream_routes", itemID, p)
	if err != nil {
		return nil, err
	}
	m := d.members
	r := &StreamRoute{
		ID: itemID, Name: text(m["name"]), Desc: text(m["desc"]), Labels: labels(m["labels"]),
		ServerPort: integer(m["server_port"]), SNI: strings.ToLower(text(m["sni"])),
		UpstreamID: id(m["upstream_id"]), ServiceID: id(m["service_id"]),
	}
	for member, to := range map[string]**netip.Prefix{"remote_addr": &r.RemoteAddr, "server_addr": &r.ServerAddr} {
		if s, ok := m[member]; ok {
			p, err := parsePrefix(text(s))
			if err != nil {
				return nil, fmt.Errorf("invalid %s: %s", member, s)
			}
			*to = &p
		}
	}
	if r.Upstream, err = inlineUpstream(m); err != nil {
		return nil, err
	}
	if protocol, ok := m["protocol"]; ok {
		stored, err := d.raw("protocol")
		if err != nil {
			return nil, err
		}
		raw, err := rawMembers(stored)
		if err != nil {
			return nil, fmt.Errorf("protocol: %w", err)
		}
		p := object(protocol)
		r.Protocol = &StreamProtocol{
			Name: text(p["name"]), SuperiorID: id(p["superior_id"]),
			Conf: slices.Clone(raw["conf"]), Logger: slices.Clone(raw["logger"]),
		}
	}
	r.Plugins, err = d.plugins()
	return r, err
}

// StreamProtocolOf is the name of the protocol that a stream route speaks; not given for
// plain TCP or UDP.
func StreamProtocolOf(doc any) (name string, given bool) {
	protocol, given := object(doc)["protocol"]
	return text(object(protocol)["name"]), given
}

func checkStreamRoute(doc any) error {
	m := object(doc)
	for _, member := range []string{"remote_addr", "server_addr"} {
		if s, ok := m[member]; ok {
			if _, err := prefixes(member, []string{text(s)}); err != nil {
				return err
			}
		}
	}
	if superior, ok := IDText(object(m["protocol"])["superior_id"]); ok && superior == id(m["id"]) {
		return errors.New("stream route can not set itself as superior_id")
	}
	return checkInlineUpstream(m)
}
