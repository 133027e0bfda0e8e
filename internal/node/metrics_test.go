package node

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gosix/gosix/internal/timetest"
	"github.com/gosix/gosix/pkg/config"
)

func TestMetricsAreTold(t *testing.T) {
	c := settings(t)
	c.PluginAttr["prometheus"] = []byte(`{"export_addr":{"port":0},"export_uri":"/m","metric_prefix":"own_"}`)
	p := begin(t, config.ProgramGosix, c)
	ports := p.ports()
	if ports.Metrics == "" {
		t.Fatal("nothing tells metrics")
	}
	p.eventually("the address is printed", func() bool { return strings.Contains(p.out.String(), "http://"+ports.Metrics+"/m\n") })
	if res, err := http.Get("http://" + ports.Gateway[0] + "/nowhere"); err != nil {
		t.Fatal(err)
	} else {
		_ = res.Body.Close()
	}
	var text []byte
	timetest.Until(t, "the watch of the store is connected", func() bool {
		res, err := http.Get("http://" + ports.Metrics + "/m")
		if err != nil {
			t.Fatal(err)
		}
		text, err = io.ReadAll(res.Body)
		_ = res.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		return strings.Contains(string(text), "own_etcd_reachable 1\n")
	})
	for _, want := range []string{
		"own_etcd_reachable 1\n", "own_store_reset 0\n", "own_snapshot_errors_total 0\n", "own_http_requests_total 1\n", `own_nginx_http_current_connections{state="accepted"} 1` + "\n",
		`own_etcd_modify_indexes{key="stream_routes"} 0` + "\n", `own_etcd_modify_indexes{key="x_etcd_index"} `, `,version="` + Version() + `"} 1` + "\n",
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("there is no %q in\n%s", want, text)
		}
	}
}

func TestMetricsThatAreSwitchedOff(t *testing.T) {
	for name, change := range map[string]func(*config.Config){
		"by the setting": func(c *config.Config) {
			c.PluginAttr["prometheus"] = []byte(`{"enable_export_server":false,"export_addr":{"port":0}}`)
		},
		"without the plugin": func(c *config.Config) { c.Plugins = []string{"key-auth"} },
	} {
		t.Run(name, func(t *testing.T) {
			c := settings(t)
			change(c)
			if ports := begin(t, config.ProgramGosix, c).ports(); ports.Metrics != "" {
				t.Errorf("it listens at %s", ports.Metrics)
			}
		})
	}
}

func TestAWrongSettingOfMetricsIsNamed(t *testing.T) {
	c := settings(t)
	c.PluginAttr["prometheus"] = []byte(`{"max_series":-1}`)
	p := begin(t, config.ProgramGosix, c)
	<-p.done
	if p.err == nil || p.err.Error() != "plugin_attr.prometheus.max_series: -1 is below 1" {
		t.Errorf("got %v", p.err)
	}
}

func TestMetricsTellWhatHealthChecksSay(t *testing.T) {
	c := settings(t)
	c.Deployment.Admin.Keys = []config.AdminKey{{Name: "a", Key: reloadKey, Role: "admin"}}
	p := begin(t, config.ProgramGosix, c)
	ports := p.ports()
	alive := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(alive.Close)
	gone := strings.TrimPrefix(nobody, "http://")
	up := strings.TrimPrefix(alive.URL, "http://")
	checks := `{"active":{"type":"tcp","healthy":{"interval":1,"successes":1},"unhealthy":{"interval":1,"tcp_failures":1}}}`
	body := `{"uri":"/a","upstream":{"type":"roundrobin","nodes":{"` + up + `":1,"` + gone + `":1},"checks":` + checks + `}}`
	if status, text := p.admin(http.MethodPut, ports.Admin, "/routes/7", body); status != http.StatusCreated {
		t.Fatalf("got %d %s", status, text)
	}
	series := func(addr string, state int) string {
		ip, port, _ := net.SplitHostPort(addr)
		return fmt.Sprintf("apisix_upstream_status{name=%q,ip=%q,port=%q} %d\n", "/apisix/routes/7", ip, port, state)
	}
	told := func() string {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+ports.Metrics+"/apisix/prometheus/metrics", nil)
		if err != nil {
			t.Fatal(err)
		}
		_, text := p.do(req)
		return text
	}
	if strings.Contains(told(), "apisix_upstream_status") {
		t.Error("servers that nobody used are told")
	}
	p.eventually("a request is answered", func() bool { return p.get("http://"+ports.Gateway[0]+"/a") == http.StatusOK })
	p.eventually("one is told to be healthy, the other not to be", func() bool {
		text := told()
		return strings.Contains(text, series(up, 1)) && strings.Contains(text, series(gone, 0)) && strings.Count(text, "\napisix_upstream_status{") == 2
	})
}
