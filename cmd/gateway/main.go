// Command gateway is the data plane alone: it follows an external etcd and serves.
package main

import (
	"github.com/gosix/gosix/internal/node"
	"github.com/gosix/gosix/pkg/config"
)

func main() {
	node.Execute(node.ServeCommand("gateway", "Serve the data plane from an external etcd", config.ProgramGateway, node.Parts{}))
}
