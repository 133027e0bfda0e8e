package resource

import "net/http"

var (
	verbsAll         = []string{http.MethodGet, http.MethodPut, http.MethodPost, http.MethodPatch, http.MethodDelete}
	verbsWithoutPost = []string{http.MethodGet, http.MethodPut, http.MethodPatch, http.MethodDelete}
	verbsNoPatch     = []string{http.MethodGet, http.MethodPut, http.MethodPost, http.MethodDelete}
	verbsPutOnly     = []string{http.MethodGet, http.MethodPut, http.MethodDelete}
)

// allKinds is the table of spec/01 §3 with the references of §3.6.
func allKinds() []*Kind {
	upstreamRef := Ref{Member: "upstream_id", Kind: "upstreams", Word: "upstream"}
	serviceRef := Ref{Member: "service_id", Kind: "services", Word: "service"}
	certRef := func(member string) Ref {
		return Ref{Member: member, Kind: "ssls", Word: "ssl", check: isClientCert}
	}
	plugins := func(f Flavour) []PluginMember { return []PluginMember{{Path: "plugins", Flavour: f}} }

	return []*Kind{
		{
			Name: "routes", Word: "route", SchemaName: "route", Verbs: verbsAll, Times: true, Marker: true,
			Refs: []Ref{
				upstreamRef, serviceRef,
				{Member: "plugin_config_id", Kind: "plugin_configs", Word: "plugin config"},
				certRef("upstream.tls.client_cert_id"),
			},
			Secrets:       []string{"upstream.tls.client_key"},
			PluginMembers: plugins(FlavourNormal),
			early:         earlyRoute, Check: checkRoute,
		},
		{
			Name: "services", Word: "service", SchemaName: "service", Verbs: verbsAll, Times: true, Marker: true,
			Refs: []Ref{upstreamRef, certRef("upstream.tls.client_cert_id")},
			UsedBy: []Use{
				{Kind: "routes", Member: "service_id", text: "can not delete this service directly, route [%s] is still using it now"},
				{Kind: "stream_routes", Member: "service_id", text: "can not delete this service directly, stream_route [%s] is still using it now"},
			},
			Secrets:       []string{"upstream.tls.client_key"},
			PluginMembers: plugins(FlavourNormal),
			Check:         checkService,
		},
		{
			Name: "graphql_cost_decorations", Word: "graphql cost decoration", SchemaName: "graphql_cost_decoration",
			Parent: "services", ParentMember: "service_id", Verbs: verbsAll, Times: true,
		},
		{
			Name: "upstreams", Word: "upstream", SchemaName: "upstream", Verbs: verbsAll, Times: true, Marker: true,
			Refs: []Ref{certRef("tls.client_cert_id")},
			UsedBy: append([]Use{
				{Kind: "routes", Member: "upstream_id", text: "can not delete this upstream, route [%s] is still using it now"},
				{Kind: "services", Member: "upstream_id", text: "can not delete this upstream, service [%s] is still using it now"},
				{Kind: "stream_routes", Member: "upstream_id", text: "can not delete this upstream, stream_route [%s] is still using it now"},
			}, usesByTrafficSplit()...),
			Secrets: []string{"tls.client_key"},
			Check:   checkUpstream,
		},
		{
			Name: "consumers", Word: "consumer", SchemaName: "consumer", Verbs: verbsPutOnly, IDFrom: IDFromUsername, Times: true, Marker: true,
			Refs:          []Ref{{Member: "group_id", Kind: "consumer_groups", Word: "consumer group"}},
			PluginMembers: plugins(FlavourConsumer),
		},
		{
			Name: "credentials", Word: "credential", SchemaName: "credential", Parent: "consumers", Verbs: verbsPutOnly, Times: true,
			PluginMembers: plugins(FlavourCredential),
		},
		{
			Name: "consumer_groups", Word: "consumer group", SchemaName: "consumer_group", Verbs: verbsWithoutPost, Times: true, Marker: true,
			UsedBy: []Use{
				{Kind: "consumers", Member: "group_id", text: "can not delete this consumer group, consumer [%s] is still using it now"},
			},
			PluginMembers: plugins(FlavourNormal),
		},
		{
			Name: "plugin_configs", Word: "plugin config", SchemaName: "plugin_config", Verbs: verbsWithoutPost, Times: true, Marker: true,
			UsedBy: []Use{
				{Kind: "routes", Member: "plugin_config_id", text: "can not delete this plugin config, route [%s] is still using it now"},
			},
			PluginMembers: plugins(FlavourNormal),
		},
		{
			Name: "global_rules", Word: "global rule", SchemaName: "global_rule", Verbs: verbsWithoutPost, Times: true, Marker: true,
			PluginMembers: plugins(FlavourNormal),
		},
		{
			Name: "plugin_metadata", Word: "plugin_metadata", SchemaName: "plugin_metadata", Verbs: verbsPutOnly, IDFrom: IDFromPath, Marker: true,
			PluginMembers: []PluginMember{{Flavour: FlavourMetadata}},
		},
		{
			Name: "ssls", Word: "ssl", SchemaName: "ssl", Verbs: verbsAll, Times: true, Marker: true,
			Secrets: []string{"key", "keys"}, Redact: []string{"key", "keys"},
			Check: checkSSL,
		},
		{
			Name: "secrets", Word: "secret", SchemaName: "secret", Verbs: verbsWithoutPost, IDFrom: IDFromManager, Times: true, Marker: true,
			OwnSecrets: []string{"token", "secret_access_key", "session_token", "auth_config.private_key"},
		},
		{
			Name: "protos", Word: "proto", SchemaName: "proto", Verbs: verbsNoPatch, Times: true, Marker: true,
			UsedBy: []Use{
				{Kind: "routes", Plugin: "grpc-transcode", Member: "proto_id", text: "can not delete this proto, route [%s] is still using it now"},
				{Kind: "services", Plugin: "grpc-transcode", Member: "proto_id", text: "can not delete this proto, service [%s] is still using it now"},
			},
		},
		{
			Name: "stream_routes", Word: "stream route", SchemaName: "stream_route", Verbs: verbsNoPatch, Times: true, Marker: true,
			Refs: []Ref{
				upstreamRef, serviceRef, certRef("upstream.tls.client_cert_id"),
				{Member: "protocol.superior_id", Kind: "stream_routes", Word: "stream route", text: "failed to fetch stream routes[%s]", check: hasSameProtocol},
			},
			UsedBy: []Use{
				{Kind: "stream_routes", Member: "protocol.superior_id", text: "can not delete this stream route directly, stream route [%s] is still using it as superior_id"},
			},
			Secrets:       []string{"upstream.tls.client_key"},
			PluginMembers: plugins(FlavourStream),
			Check:         checkStreamRoute,
		},
	}
}

func usesByTrafficSplit() []Use {
	uses := make([]Use, 0, 6)
	for _, in := range []struct{ kind, word string }{
		{"routes", "route"},
		{"services", "service"},
		{"plugin_configs", "plugin_config"},
		{"consumers", "consumer"},
		{"consumer_groups", "consumer_group"},
		{"global_rules", "global_rules"},
	} {
		uses = append(uses, Use{
			Kind: in.kind, Plugin: "traffic-split", Member: "rules[].weighted_upstreams[].upstream_id",
			text: "can not delete this upstream, plugin in " + in.word + " [%s] is still using it now",
		})
	}
	return uses
}
