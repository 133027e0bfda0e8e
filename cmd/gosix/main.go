// Command gosix is the whole gateway in one process: Admin API, data plane and, unless
// another is configured, an etcd of its own. It is the only program that links the etcd
// server.
package main

import (
	"fmt"
	"os"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/gosix/gosix/internal/control"
	"github.com/gosix/gosix/internal/node"
	"github.com/gosix/gosix/pkg/config"
	"github.com/gosix/gosix/pkg/store/embedetcd"
)

func main() {
	root := &cobra.Command{Use: "gosix", Short: "An AI and API gateway that speaks Apache APISIX's language"}
	parts := node.Parts{Etcd: embedded, Admin: control.Admin}
	root.AddCommand(node.ServeCommand("run", "Serve: Admin API and gateway", config.ProgramGosix, parts), check(), version())
	node.Execute(root)
}

// embedded starts the process's own etcd.
func embedded(dir, listen string, log zerolog.Logger) (string, func(), error) {
	s, err := embedetcd.Start(embedetcd.Config{Dir: dir, Listen: listen, Log: log})
	if err != nil {
		return "", nil, err
	}
	return s.Endpoint(), s.Close, nil
}

func check() *cobra.Command {
	var conf string
	var stored bool
	c := &cobra.Command{
		Use: "check", Short: "Say what is wrong with the settings, and with --etcd which stored items would be rejected", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return node.Check(conf, stored, os.Stdout) },
	}
	c.Flags().StringVarP(&conf, "config", "c", "", "settings (default: built-in ones)")
	c.Flags().BoolVar(&stored, "etcd", false, "judge what is stored in the configured etcd, too")
	return c
}

func version() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		Run: func(*cobra.Command, []string) { fmt.Println("gosix " + node.Version()) },
	}
}
