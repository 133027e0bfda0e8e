package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/rs/zerolog"

	"github.com/gosix/gosix/pkg/config"
)

// Main runs a program's parts with the settings at path until a signal ends it.
func Main(path string, parts Parts, out io.Writer) error {
	log := zerolog.New(os.Stderr).With().Timestamp().Logger()
	c, notices, err := config.Load(path, os.LookupEnv)
	if err != nil {
		return err
	}
	for _, n := range notices {
		log.Warn().Msg(string(n))
	}
	if parts.Admin && c.Deployment.Admin.HTTPS {
		return errors.New("deployment.admin.https_admin: this version has no TLS for the Admin API; keep it on loopback, or behind a TLS front")
	}
	if err := (&parts).fit(c); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	return Run(ctx, c, parts, out, log, hup)
}

// fit refuses a role that the program does not play, and narrows one that plays both.
func (p *Parts) fit(c *config.Config) error {
	role := c.Deployment.Role
	switch {
	case role == "data_plane" && !p.Gateway:
		return fmt.Errorf("deployment.role: %q is not what this program does", role)
	case role == "control_plane" && !p.Admin:
		return fmt.Errorf("deployment.role: %q is not what this program does", role)
	case role == "data_plane":
		p.Admin = false
	case role == "control_plane":
		p.Gateway = false
	}
	return nil
}
