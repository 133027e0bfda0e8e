package stage

import (
	"strings"

	"github.com/rs/zerolog"

	"github.com/gosix/gosix/pkg/balancer"
	"github.com/gosix/gosix/pkg/builtin"
	"github.com/gosix/gosix/pkg/plugin"
	"github.com/gosix/gosix/pkg/plugin/aiproxy"
	"github.com/gosix/gosix/pkg/plugin/prometheus"
	"github.com/gosix/gosix/pkg/upstream"
	"github.com/gosix/gosix/t/blocktest/lua"
)

// plugins answers scripts that ask a plugin for its schema, with the registry of the
// gateway under test.
type plugins struct{ registry *plugin.Registry }

func newPlugins(client *upstream.Client) plugins {
	metrics, err := prometheus.New(nil)
	if err != nil {
		panic(err) // the defaults are good
	}
	deps := aiproxy.Deps{Client: client, Drivers: builtin.Drivers(), Pickers: balancer.NewCache(0)}
	return plugins{plugin.NewRegistry(plugin.Settings{Log: zerolog.Nop()}, builtin.Plugins(deps, metrics)...)}
}

// Plugin describes a plugin.
func (p plugins) Plugin(name string) (lua.PluginInfo, bool) {
	d, ok := p.registry.Definition(name)
	if !ok {
		return lua.PluginInfo{}, false
	}
	return lua.PluginInfo{Name: d.Name, Version: d.Version, Priority: d.Priority, Schema: p.registry.PublishedSchema(name)}, true
}

// Check judges a configuration in the words of the plugin itself, without those by which
// the Admin API says whose they are.
func (p plugins) Check(name, kind string, conf []byte) (filled []byte, err error) {
	switch kind {
	case "consumer":
		c, _, bad := p.registry.CompileConsumer(plugin.Source{Name: name, Conf: conf}, nil, nil)
		if err = bad; c != nil {
			filled = c.Conf
		}
	case "metadata":
		filled, err = conf, p.registry.CheckMetadata(name, conf)
	default:
		filled, err = p.registry.Fill(name, conf)
	}
	if err != nil {
		_, own, found := strings.Cut(err.Error(), "failed to check the configuration of plugin "+name+" err: ")
		if found {
			err = plain(own)
		}
	}
	return filled, err
}

// plain is an error that is only its text.
type plain string

func (p plain) Error() string { return string(p) }
