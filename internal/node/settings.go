package node

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"strings"

	"github.com/rs/zerolog"

	"github.com/gosix/gosix/pkg/balancer"
	"github.com/gosix/gosix/pkg/builtin"
	"github.com/gosix/gosix/pkg/config"
	"github.com/gosix/gosix/pkg/drivers/gcp"
	"github.com/gosix/gosix/pkg/plugin"
	"github.com/gosix/gosix/pkg/plugin/aiproxy"
	"github.com/gosix/gosix/pkg/plugin/prometheus"
	"github.com/gosix/gosix/pkg/resource"
	"github.com/gosix/gosix/pkg/route"
	"github.com/gosix/gosix/pkg/seal"
	"github.com/gosix/gosix/pkg/sealed"
	"github.com/gosix/gosix/pkg/store/etcdstore"
	"github.com/gosix/gosix/pkg/upstream"
	"github.com/gosix/gosix/pkg/upstream/health"
)

// openStore opens the configured etcd.
func openStore(c *config.Config, log zerolog.Logger) (*etcdstore.Store, error) {
	e := &c.Deployment.Etcd
	t, err := etcdTLS(c)
	if err != nil {
		return nil, err
	}
	return etcdstore.New(etcdstore.Config{
		Endpoints: e.Host, Username: e.User, Password: e.Password.Reveal(), TLS: t, Timeout: config.Seconds(e.Timeout), Log: log,
	})
}

// etcdTLS returns nil for an etcd that is spoken to in the clear.
func etcdTLS(c *config.Config) (*tls.Config, error) {
	e := &c.Deployment.Etcd
	if len(e.Host) == 0 || !strings.HasPrefix(e.Host[0], "https://") {
		return nil, nil
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: e.TLS.SNI, InsecureSkipVerify: !e.TLS.Verify} //nolint:gosec // deployment.etcd.tls.verify
	if e.TLS.Cert != "" {
		pair, err := tls.LoadX509KeyPair(e.TLS.Cert, e.TLS.Key)
		if err != nil {
			return nil, fmt.Errorf("deployment.etcd.tls: %w", err)
		}
		t.Certificates = []tls.Certificate{pair}
	}
	var err error
	if e.TLS.CA != "" {
		t.RootCAs, err = authorities("deployment.etcd.tls.ca", e.TLS.CA)
	} else {
		t.RootCAs, err = trusted(c)
	}
	if err != nil {
		return nil, err
	}
	return t, nil
}

// trusted are the authorities of the servers that the process speaks to; nil: the system's.
func trusted(c *config.Config) (*x509.CertPool, error) {
	file := c.Apisix.SSL.Trusted
	if file == "" || file == "system" {
		return nil, nil
	}
	return authorities("apisix.ssl.ssl_trusted_certificate", file)
}

// adminTLS returns nil for an Admin API in the clear.
func adminTLS(a *config.Admin) (*tls.Config, error) {
	if !a.HTTPS {
		return nil, nil
	}
	pair, err := tls.LoadX509KeyPair(a.MTLS.Cert, a.MTLS.CertKey)
	if err != nil {
		return nil, fmt.Errorf("deployment.admin.admin_api_mtls: %w", err)
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}}
	if a.MTLS.CA != "" {
		if t.ClientCAs, err = authorities("deployment.admin.admin_api_mtls.admin_ssl_ca_cert", a.MTLS.CA); err != nil {
			return nil, err
		}
		t.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return t, nil
}

func authorities(setting, file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", setting, err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s: %s holds no certificate", setting, file)
	}
	return pool, nil
}

// keyring returns what secrets are sealed with, nil if they are not.
func keyring(c *config.Config) (*seal.Ring, error) {
	e := c.Apisix.DataEncryption
	if !e.Enable {
		return nil, nil
	}
	keys := make([]string, len(e.Keyring))
	for i, k := range e.Keyring {
		keys[i] = k.Reveal()
	}
	ring, err := seal.New(keys, e.Format)
	if err != nil {
		return nil, fmt.Errorf("apisix.data_encryption.%w", err)
	}
	return ring, nil
}

// plugins returns the plugins that the settings switch on; deps lacks what the settings say.
func plugins(c *config.Config, deps aiproxy.Deps, m *prometheus.Metrics, log zerolog.Logger) *plugin.Registry {
	deps.Drivers, deps.Depth, deps.MaxBody = builtin.Drivers(), c.Apisix.Limits.JSONDepth, c.Apisix.Limits.AIBody
	return plugin.NewRegistry(plugin.Settings{Enabled: c.Plugins, Attr: c.PluginAttr, Log: log}, builtin.Plugins(deps, m)...)
}

// tokens returns what gets access tokens for service accounts. The environment names that of
// instances which name none, as it does for the reference.
func tokens(client *upstream.Client, log zerolog.Logger) *gcp.Source {
	return gcp.NewSource(gcp.Options{Client: client, Default: os.Getenv("GCP_SERVICE_ACCOUNT"), Log: log})
}

// environment is what stored configuration is compiled with.
func environment(c *config.Config, registry *plugin.Registry, ring *seal.Ring, pickers *balancer.Cache, checker *health.Checker, log zerolog.Logger) route.Env {
	env := route.Env{
		Registry: registry, Prefix: c.Deployment.Etcd.Prefix, Router: c.Apisix.Router.HTTP,
		SkipUnknown: c.Apisix.UnknownPlugins == "skip", Pickers: pickers, Health: checker, Log: log,
	}
	env.Decrypt = func(key string, doc []byte) ([]byte, error) {
		kind, _, ok := resource.Locate(key)
		if !ok {
			return doc, nil
		}
		doc, err := sealed.Open(ring, registry, key, kind, doc)
		if err != nil {
			return nil, err
		}
		// Taken as it is, what stands for a secret would be one: asked of clients, and sent to
		// providers.
		foreign, err := sealed.Still(registry, kind, doc, nil)
		if err == nil && foreign != "" {
			err = fmt.Errorf("%s: no key of apisix.data_encryption.keyring opens it", foreign)
		}
		return doc, err
	}
	return env
}

// serverHeader is the Server header where own is what the program calls itself (spec/00 10).
func serverHeader(c *config.Config, own string) string {
	switch {
	case c.Apisix.ServerHeader != "":
		return c.Apisix.ServerHeader
	case !c.Apisix.ServerTokens:
		name, _, _ := strings.Cut(own, "/")
		return name
	}
	return own
}
