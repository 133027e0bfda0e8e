package lua

import (
	"testing"

	"github.com/rs/zerolog"

	"github.com/gosix/gosix/pkg/store/embedetcd"
)

func TestCoreEtcdWritesWhereTheGatewayReads(t *testing.T) {
	s, err := embedetcd.Start(embedetcd.Config{Dir: t.TempDir(), Listen: "127.0.0.1:0", Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	// The runtime's client is closed before the server is.
	t.Cleanup(s.Close)
	check(t, newRuntime(t, Options{Etcd: s.Endpoint(), Prefix: "/apisix"}), []snippet{
		{"what is set is created, then replaced", `
			local etcd = require("apisix.core.etcd")
			ngx.print(etcd.set("/routes/1", {uri = "/a"}).status, etcd.set("/routes/1", {uri = "/b"}).status)`, "201200"},
		{"one key is read as a node", `
			local res = require("apisix.core").etcd.get("/routes/1")
			ngx.print(res.status, res.body.node.key, res.body.node.value.uri)`, "200/apisix/routes/1/b"},
		{"a directory is read as a list", `
			local body = require("apisix.core").etcd.get("/routes", true).body
			ngx.print(body.total, body.list[1].value.uri)`, "1/b"},
		{"push makes an id", `
			local res = require("apisix.core").etcd.push("/routes", {uri = "/c"})
			ngx.print(res.status, #res.body.node.value.id)`, "20120"},
		{"what is gone is not found", `
			local etcd = require("apisix.core").etcd
			ngx.print(etcd.delete("/routes/1").status, etcd.delete("/routes/1").status, etcd.get("/routes/1").body.message)`, "200404Key not found"},
	})
}
