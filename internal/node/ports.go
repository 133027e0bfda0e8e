package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
)

// Ports is where a process listens, as written to ports.json. An address is one that a
// client on the same machine can use.
type Ports struct {
	Gateway    []string `json:"gateway,omitempty"`
	GatewayTLS []string `json:"gateway_tls,omitempty"`
	Admin      string   `json:"admin,omitempty"`
	Control    string   `json:"control,omitempty"`
	Status     string   `json:"status,omitempty"`
	Metrics    string   `json:"metrics,omitempty"`
	Etcd       string   `json:"etcd,omitempty"` // of its own
}

// listen opens an address; an error names the setting.
func listen(setting, addr string) (net.Listener, error) {
	// Multipath TCP, net's default, has no way to close a listener without resetting the
	// clients that were just accepted (pkg/drain).
	var c net.ListenConfig
	c.SetMultipathTCP(false)
	l, err := c.Listen(context.Background(), "tcp", addr)
	if err == nil {
		return l, nil
	}
	if cause := errors.Unwrap(err); cause != nil {
		err = cause // without net's own mention of the address
	}
	return nil, fmt.Errorf("%s: cannot listen on %s: %w", setting, addr, err)
}

// reachable is an address that a client on this machine can use.
func reachable(a net.Addr) string {
	t, ok := a.(*net.TCPAddr)
	if !ok || !t.IP.IsUnspecified() {
		return a.String()
	}
	return fmt.Sprintf("127.0.0.1:%d", t.Port)
}

func (n *node) writePorts() error {
	raw, err := json.MarshalIndent(n.ports, "", "  ")
	if err != nil {
		return err
	}
	if err := writeFile(n.data("ports.json"), append(raw, '\n'), 0o644); err != nil {
		return fmt.Errorf("deployment.data_dir: %w", err)
	}
	return nil
}

// greet tells a person at the terminal where things are.
func (n *node) greet() {
	say := func(format string, args ...any) { _, _ = fmt.Fprintf(n.Out, format+"\n", args...) }
	if len(n.ports.Gateway) > 0 {
		say("gateway  http://%s", strings.Join(n.ports.Gateway, " http://"))
	}
	if len(n.ports.GatewayTLS) > 0 {
		say("         https://%s", strings.Join(n.ports.GatewayTLS, " https://"))
	}
	if n.ports.Control != "" {
		say("control  http://%s/v1/config", n.ports.Control)
	}
	if n.ports.Metrics != "" {
		say("metrics  http://%s%s", n.ports.Metrics, n.metrics.Path())
	}
	if n.ports.Admin == "" {
		return
	}
	scheme, header := "http", ""
	if n.c.Deployment.Admin.HTTPS {
		scheme = "https"
	}
	say("admin    %s://%s/apisix/admin", scheme, n.ports.Admin)
	switch {
	case !n.c.Deployment.Admin.KeyRequired:
		say("key      none is asked for")
	case n.key.file == "":
		say("key      one of deployment.admin.admin_key; below it is $ADMIN_KEY")
		header = `-H "X-API-KEY: $ADMIN_KEY" `
	default:
		once := ""
		if n.key.fresh != "" {
			once = " (new, and shown this once: " + n.key.fresh + ")"
		}
		say("key      %s%s", n.key.file, once)
		header = fmt.Sprintf(`-H "X-API-KEY: $(cat %s)" `, quoted(n.key.file))
	}
	say(`try      curl %s%s://%s/apisix/admin/routes`, header, scheme, n.ports.Admin)
}

// quoted is a path as a shell reads it back.
func quoted(path string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-", r)
	}
	if strings.IndexFunc(path, func(r rune) bool { return !plain(r) }) < 0 {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}
