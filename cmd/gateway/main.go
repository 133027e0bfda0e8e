// Command gateway is the data plane alone: it follows an external etcd and serves.
package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/gosix/gosix/internal/node"
	"github.com/gosix/gosix/pkg/config"
)

func main() {
	var conf string
	root := &cobra.Command{
		Use: "gateway", Short: "Serve the data plane from an external etcd", Args: cobra.NoArgs, Version: node.Version(),
		SilenceUsage: true, SilenceErrors: true, CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		RunE: func(*cobra.Command, []string) error {
			return node.Main(conf, config.ProgramGateway, nil, os.Stdout)
		},
	}
	root.Flags().StringVarP(&conf, "config", "c", "", "settings (default: built-in ones)")
	root.AddCommand(node.HealthCommand())
	if err := root.Execute(); err != nil {
		fmt.Fprintln(os.Stderr, "gateway:", err)
		os.Exit(1)
	}
}
