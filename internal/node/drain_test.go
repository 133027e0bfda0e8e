package node

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/gosix/gosix/pkg/config"
)

// ending starts a process and ends it with a cause, and returns what ends it at once.
func ending(t *testing.T, c *config.Config, cause error) (p *process, ports Ports, now func()) {
	t.Helper()
	ctx, cancel := context.WithCancelCause(t.Context())
	hurry, now := context.WithCancel(context.Background())
	t.Cleanup(now)
	p = &process{t: t, c: c, end: func() { now(); cancel(nil) }, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		p.err = Run(ctx, Options{Parts: Parts{Etcd: ownEtcd, Admin: TestAdmin}, Program: config.ProgramGosix, Config: c, Out: &p.out, Log: zerolog.New(&p.log), Now: hurry})
	}()
	t.Cleanup(p.stop)
	ports = p.ports()
	cancel(cause)
	return p, ports, now
}

func TestInTheLameDuckANodeServesAndIsNotReady(t *testing.T) {
	c := settings(t)
	c.Apisix.LameDuck = 3600
	c.Deployment.Admin.Keys[0].Key = reloadKey
	p, ports, now := ending(t, c, ErrTerminated)
	p.eventually("it is not ready", func() bool { return p.get("http://"+ports.Status+"/status/ready") == http.StatusServiceUnavailable })
	for name, url := range map[string]string{"the gateway": ports.Gateway[0] + "/", "the Admin API": ports.Admin + "/apisix/admin/routes"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+url, nil)
		if err != nil {
			t.Fatal(err)
		}
		p.eventually(name+" says close", func() bool {
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(name, err)
			}
			_ = res.Body.Close()
			return res.Close
		})
	}
	if status, text := p.admin("PUT", ports.Admin, "/routes/1", `{"uri":"/x","upstream":{"nodes":{"127.0.0.1:1":1}}}`); status != http.StatusCreated {
		t.Errorf("a write in the lame duck: %d %s", status, text)
	}
	if got := p.get("http://" + ports.Status + "/status"); got != http.StatusOK {
		t.Errorf("/status: %d", got)
	}
	now()
	<-p.done
	if p.err != nil {
		t.Error(p.err)
	}
}

func TestOnlySIGTERMHasALameDuck(t *testing.T) {
	c := settings(t)
	c.Apisix.LameDuck = 3600
	p, _, _ := ending(t, c, nil)
	<-p.done
	if p.err != nil || !strings.Contains(p.log.String(), `"lame_duck_ms":0`) {
		t.Errorf("%v\n%s", p.err, &p.log)
	}
}
