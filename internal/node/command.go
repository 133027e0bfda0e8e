package node

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/gosix/gosix/pkg/config"
)

// ServeCommand is the command that serves with the settings named by --config.
func ServeCommand(use, short string, program config.Program, parts Parts) *cobra.Command {
	var conf string
	c := &cobra.Command{
		Use: use, Short: short, Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return Main(conf, program, parts, os.Stdout) },
	}
	c.Flags().StringVarP(&conf, "config", "c", "", "settings (default: built-in ones)")
	return c
}

// Execute runs a program's root command, to which it adds what every program has, and ends
// the process with 1 if that fails.
func Execute(root *cobra.Command) {
	root.Version, root.SilenceUsage, root.SilenceErrors = Version(), true, true
	root.CompletionOptions = cobra.CompletionOptions{DisableDefaultCmd: true}
	root.AddCommand(HealthCommand())
	if err := root.Execute(); err != nil {
		fmt.Fprintln(os.Stderr, root.Name()+":", err)
		os.Exit(1)
	}
}
