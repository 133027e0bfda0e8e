package node_test

import (
	"github.com/gosix/gosix/internal/control"
	"github.com/gosix/gosix/internal/node"
)

func init() { node.TestAdmin = control.Admin }
