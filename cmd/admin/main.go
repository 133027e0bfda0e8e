// Command admin is the control plane alone: the Admin API over an external etcd.
package main

import (
	"github.com/gosix/gosix/internal/control"
	"github.com/gosix/gosix/internal/node"
	"github.com/gosix/gosix/pkg/config"
)

func main() {
	node.Execute(node.ServeCommand("admin", "Serve the Admin API over an external etcd", config.ProgramAdmin, node.Parts{Admin: control.Admin}))
}
