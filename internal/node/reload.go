package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/gosix/gosix/pkg/config"
	"github.com/gosix/gosix/pkg/plugin"
	"github.com/gosix/gosix/pkg/resource"
	"github.com/gosix/gosix/pkg/route"
	"github.com/gosix/gosix/pkg/store"
)

// loaded is what a process makes of a list of plugins. Registries do not change: another
// list makes another Admin API and another snapshot, and what runs ends with what it began
// with.
type loaded struct {
	mu       sync.Mutex // held while the list changes, here or in the store
	list     resource.PluginList
	store    store.Store
	registry func(resource.PluginList) *plugin.Registry
	env      func(*plugin.Registry) route.Env
	admin    func(*plugin.Registry) AdminAPI // nil without the Admin API
	current  atomic.Pointer[AdminAPI]
	syncer   *route.Syncer // nil without the gateway
}

// named is the list with the names of every plugin where it has none.
func named(list resource.PluginList, r *plugin.Registry) resource.PluginList {
	if list.HTTP == nil {
		list.HTTP = r.Names()
	}
	return list
}

// pluginList is the list in the settings. Without one, HTTP is nil.
func pluginList(c *config.Config) resource.PluginList {
	return resource.PluginList{HTTP: c.Plugins, Stream: c.StreamPlugins}
}

// reload puts the plugins in force that the settings name now (spec/01 §6). Other nodes are
// told first: that alone may fail, and then nothing has changed.
func (n *node) reload() (revision int64, err error) {
	n.loaded.mu.Lock()
	defer n.loaded.mu.Unlock()
	if n.Settings == nil {
		return 0, errors.New("there are no settings to read again")
	}
	n.Log.Info().Msg("start to hot reload plugins")
	c, err := n.Settings()
	if err != nil {
		return 0, err
	}
	registry := n.loaded.registry(pluginList(c))
	list := named(pluginList(c), registry)
	value, err := list.Encode()
	if err != nil {
		return 0, err
	}
	res, err := n.loaded.store.Commit(n.background, nil, []store.Op{{Key: n.pluginsKey(), Value: value}})
	if err != nil {
		return 0, err
	}
	n.Log.Info().Str("key", n.pluginsKey()).Msg("sync local conf to etcd")
	n.loaded.list = list
	api := n.loaded.admin(registry)
	n.loaded.current.Store(&api)
	if n.loaded.syncer != nil {
		if err := n.loaded.syncer.Use(n.background, n.loaded.env(registry)); err != nil {
			return 0, fmt.Errorf("the process is ending: %w", err)
		}
	}
	n.Log.Info().Strs("plugins", registry.Names()).Msg("plugins reloaded")
	return res.Revision, nil
}

func (n *node) pluginsKey() string { return n.c.Deployment.Etcd.Prefix + "/plugins" }

// correctPlugins replaces the stored list of plugins by that of this process, if there is
// one which differs (spec/01 §6).
func (n *node) correctPlugins(ctx context.Context) error {
	n.loaded.mu.Lock()
	defer n.loaded.mu.Unlock()
	list := n.loaded.list
	item, _, err := n.loaded.store.Get(ctx, n.pluginsKey())
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	// One that cannot be read differs, too.
	if stored, err := resource.DecodePluginList(item.Value); err == nil && stored.Equal(list) {
		return nil
	}
	value, err := list.Encode()
	if err != nil {
		return err
	}
	_, err = n.loaded.store.Commit(ctx, []store.Cond{{Key: item.Key, Revision: item.Revision}}, []store.Op{{Key: item.Key, Value: value}})
	if errors.Is(err, store.ErrConflict) {
		return nil // somebody who came after this process knows better
	}
	return err
}

// follow is the environment for a stored list of plugins, on nodes without an Admin API.
func (n *node) follow(stored []byte) (route.Env, error) {
	list := pluginList(n.c)
	if stored != nil {
		var err error
		if list, err = resource.DecodePluginList(stored); err != nil {
			return route.Env{}, err
		}
	}
	return n.loaded.env(n.loaded.registry(list)), nil
}
