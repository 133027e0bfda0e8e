// Package control gives a process its Admin API, from the settings and what else runs there.
// It is apart from internal/node so that a gateway does not link what it never serves.
package control

import (
	"github.com/gosix/gosix/internal/node"
	"github.com/gosix/gosix/pkg/adminapi"
	"github.com/gosix/gosix/pkg/config"
	"github.com/gosix/gosix/pkg/plugin"
)

// Admin is the node.Admin of programs that have one.
func Admin(p node.AdminParts) func(*plugin.Registry) node.AdminAPI {
	a := &p.Config.Deployment.Admin
	o := adminapi.Options{
		Store: p.Store, Cluster: p.Cluster, Reload: p.Reload, Ring: p.Ring, Prefix: p.Config.Deployment.Etcd.Prefix,
		Limit: config.Seconds(p.Config.Deployment.Etcd.Timeout), KeyRequired: a.KeyRequired, KeyIn: a.KeyIn,
		Allow: p.Allow, CORS: a.CORS, Stream: p.Config.Apisix.ProxyMode != "http", BodyLimit: p.Config.Apisix.Limits.AdminBody,
		Depth: p.Config.Apisix.Limits.JSONDepth, Server: p.Server, Log: p.Log,
	}
	if p.Snapshot != nil {
		o.Cache = func() adminapi.Cache {
			if now := p.Snapshot(); now.Revision() > 0 {
				return now
			}
			return nil
		}
	}
	for _, k := range a.Keys {
		o.Keys = append(o.Keys, adminapi.Key{Name: k.Name, Value: k.Key.Reveal(), Role: k.Role})
	}
	return func(r *plugin.Registry) node.AdminAPI {
		own := o
		own.Registry = r
		return adminapi.New(own)
	}
}
