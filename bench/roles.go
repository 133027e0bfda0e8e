//go:build linux

package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"github.com/gosix/gosix/bench/load"
	"github.com/gosix/gosix/bench/poll"
	"github.com/gosix/gosix/bench/provider"
	"github.com/gosix/gosix/pkg/store/embedetcd"
)

// roles are what this program also is, as processes of their own: what measures and what is
// talked to must not be slowed by each other.
var roles = map[string]func(context.Context, []string) error{
	"etcd": runEtcd, "load": runLoad, "held": runHeld, "provider": runProvider, "reverseproxy": runReverseProxy,
}

func runRole(role func(context.Context, []string) error, args []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return role(ctx, args)
}

// calm keeps the collector from work that would be measured as somebody's answer.
func calm() { debug.SetGCPercent(1000) }

func runProvider(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("provider", flag.ExitOnError)
	listen := flags.String("listen", "127.0.0.1:0", "address")
	_ = flags.Parse(args)
	calm()
	addr, err := poll.Address(*listen)
	if err != nil {
		return err
	}
	s, at, err := provider.Listen(addr)
	if err != nil {
		return err
	}
	fmt.Println("listening on", at)
	return s.Serve(ctx)
}

// task is what a process of load is told on its standard input; its answer is a measured.
type task struct {
	Addr, Path   string
	Headers      []string
	Body         string
	Bytes        int
	Lead         string
	Events       int
	Connections  int
	Rate         float64
	Warm, Window time.Duration
	Hold         bool
	AtOnce       int
	Allocations  string // address that tells them; empty: nobody is asked
	PID          int
	Processor    int
}

func (t task) request() []byte {
	return body{name: t.Body, bytes: t.Bytes, lead: t.Lead}.request(t.Addr, t.Path, t.Headers)
}

func runLoad(context.Context, []string) error {
	calm()
	var t task
	if err := json.NewDecoder(os.Stdin).Decode(&t); err != nil {
		return err
	}
	addr, err := poll.Address(t.Addr)
	if err != nil {
		return err
	}
	var allocated []allocated
	mark := func() error {
		a, err := allocations(t.Allocations)
		allocated = append(allocated, a)
		return err
	}
	if t.Allocations == "" {
		mark = nil
	}
	r, err := load.Run(load.Options{
		Addr: addr, Request: t.request(), Connections: t.Connections, Rate: t.Rate,
		Warm: t.Warm, Window: t.Window, Events: t.Events,
		PID: t.PID, Processor: t.Processor, Mark: mark,
	})
	if err != nil {
		return err
	}
	m := measured{Result: r}
	if len(allocated) == 2 {
		m.Allocated = allocated[1].minus(allocated[0])
	}
	return json.NewEncoder(os.Stdout).Encode(m)
}

// measured is what a process of load found.
type measured struct {
	load.Result
	Allocated allocated // within the window
}

// allocated is how often and how much a gateway has allocated.
type allocated struct{ Count, Bytes float64 }

func (a allocated) minus(b allocated) allocated {
	return allocated{a.Count - b.Count, a.Bytes - b.Bytes}
}

// allocations asks a gateway that tells them.
func allocations(addr string) (a allocated, err error) {
	res, err := http.Get("http://" + addr + "/debug/allocs")
	if err != nil {
		return a, err
	}
	defer func() { _ = res.Body.Close() }()
	_, err = fmt.Fscan(res.Body, &a.Count, &a.Bytes)
	return a, err
}

func runEtcd(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("etcd", flag.ExitOnError)
	dir := flags.String("dir", "", "data")
	listen := flags.String("listen", "127.0.0.1:0", "address")
	_ = flags.Parse(args)
	s, err := embedetcd.Start(embedetcd.Config{Dir: *dir, Listen: *listen, Log: zerolog.New(os.Stderr)})
	if err != nil {
		return err
	}
	<-ctx.Done()
	s.Close()
	return nil
}

func runReverseProxy(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("reverseproxy", flag.ExitOnError)
	listen := flags.String("listen", "127.0.0.1:0", "address")
	upstream := flags.String("upstream", "", "address")
	_ = flags.Parse(args)
	to, err := url.Parse("http://" + *upstream)
	if err != nil {
		return err
	}
	s := &http.Server{Addr: *listen, ReadHeaderTimeout: time.Minute, Handler: &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(to) },
		FlushInterval: -1,
		Transport:     &http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true},
	}}
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	if err := s.ListenAndServe(); ctx.Err() == nil {
		return err
	}
	return nil
}

// machine is the conditions of a measurement.
func machine() string {
	cpu := runtime.GOARCH
	if raw, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if name := after(string(raw), "model name"); name != "" {
			cpu = name
		}
	}
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	return fmt.Sprintf("%d processors (%s), Linux %s, %s", runtime.NumCPU(), cpu, trim(kernel), runtime.Version())
}
