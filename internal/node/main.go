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

// Main runs a program with the settings at path until a signal ends it: SIGTERM after the
// lame duck, SIGINT without it, a second one of either at once, and a third without any more
// ado.
func Main(path string, program config.Program, parts Parts, out io.Writer) error {
	log := zerolog.New(os.Stderr).With().Timestamp().Logger()
	c, notices, err := config.Load(path, os.LookupEnv)
	if err != nil {
		return err
	}
	for _, n := range notices {
		log.Warn().Msg(string(n))
	}
	log = log.Level(levelOf(c.Nginx.LogLevel))
	ctx, end, stop := signals()
	defer stop()
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	return Run(ctx, Options{
		Parts: parts, Program: program, Config: c, Out: out, Log: log, Reopen: hup, Now: end,
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

// signals returns a context that the first signal to end ends, with ErrTerminated if that is
// SIGTERM, and one that the second ends.
func signals() (ctx, now context.Context, stop func()) {
	ctx, first := context.WithCancelCause(context.Background())
	now, second := context.WithCancel(context.Background())
	got := make(chan os.Signal, 2)
	signal.Notify(got, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		var cause error
		if s, ok := <-got; ok && s == syscall.SIGTERM {
			cause = ErrTerminated
		}
		first(cause)
		<-got
		signal.Stop(got) // a third one ends the process as if nobody listened
		second()
	}()
	return ctx, now, func() {
		signal.Stop(got)
		close(got)
	}
}

// again reads the settings at path once more.
func again(path string) func() (*config.Config, error) {
	return func() (*config.Config, error) {
		c, _, err := config.Load(path, os.LookupEnv)
		return c, err
	}
}
