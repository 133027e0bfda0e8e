package node

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/gosix/gosix/pkg/cluster"
	"github.com/gosix/gosix/pkg/config"
)

func TestAGatewayIsRegistered(t *testing.T) {
	c := settings(t)
	c.Apisix.ID = "the-one"
	p := begin(t, config.ProgramGosix, c)
	ports := p.ports()
	key := cluster.Directory(c.Deployment.Etcd.Prefix) + "the-one"
	var n cluster.Node
	p.eventually("it is registered", func() bool { return json.Unmarshal([]byte(stored(t, c, ports, key)), &n) == nil })
	if len(n.Addresses) != 1 || n.Addresses[0] != ports.Gateway[0] || n.Control != ports.Control || n.Version != Version() || n.Started == 0 || n.Run == "" || len(n.Digest) != 64 {
		t.Errorf("got %+v", n)
	}
}

func TestAWrongIDIsNamed(t *testing.T) {
	c := settings(t)
	c.Apisix.ID = "a/b"
	p := begin(t, config.ProgramGosix, c)
	<-p.done
	if p.err == nil || !strings.HasPrefix(p.err.Error(), `apisix.id: "a/b" holds`) {
		t.Errorf("got %v", p.err)
	}
}
