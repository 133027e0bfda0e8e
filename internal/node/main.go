package node

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/rs/zerolog"

	"github.com/gosix/gosix/pkg/config"
)

// Main runs a program with the settings at path until a signal ends it. etcd may be nil.
func Main(path string, program config.Program, etcd Etcd, out io.Writer) error {
	log := zerolog.New(os.Stderr).With().Timestamp().Logger()
	c, notices, err := config.Load(path, os.LookupEnv)
	if err != nil {
		return err
	}
	for _, n := range notices {
		log.Warn().Msg(string(n))
	}
	log = log.Level(levelOf(c.Nginx.LogLevel))
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	return Run(ctx, Options{
		Program: program, Config: c, Etcd: etcd, Out: out, Log: log, Reopen: hup,
		Settings: again(path),
	})
}

// levelOf is a level by nginx's name for it; what is worse than an error is the end.
func levelOf(name string) zerolog.Level {
	switch name {
	case "debug":
		return zerolog.DebugLevel
	case "warn":
		return zerolog.WarnLevel
	case "error":
		return zerolog.ErrorLevel
	case "crit", "alert", "emerg":
		return zerolog.FatalLevel
	}
	return zerolog.InfoLevel
}

// again reads the settings at path once more.
func again(path string) func() (*config.Config, error) {
	return func() (*config.Config, error) {
		c, _, err := config.Load(path, os.LookupEnv)
		return c, err
	}
}
