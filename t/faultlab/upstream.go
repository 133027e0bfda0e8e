package main

import (
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/gosix/gosix/t/fakellm"
)

// upstreamCommand makes this program the server behind the gateways, as a process of its own.
const upstreamCommand = "upstream"

// serveUpstream answers chats as a provider, and everything else with what it was sent.
func serveUpstream(args []string) {
	flags := flag.NewFlagSet(upstreamCommand, flag.ExitOnError)
	listen := flags.String("listen", "127.0.0.1:0", "address")
	_ = flags.Parse(args)
	l, err := net.Listen("tcp", *listen)
	if err != nil {
		fmt.Fprintln(os.Stderr, "upstream:", err)
		os.Exit(1)
	}
	llm := fakellm.New("lab")
	go func() {
		// It would remember every request of a run.
		for range time.Tick(time.Second) {
			llm.Reset()
		}
	}()
	s := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/v1/") {
			llm.ServeHTTP(w, r)
			return
		}
		body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
		if err != nil {
			return
		}
		_, _ = w.Write(append([]byte("echo "), body...))
	})}
	fmt.Println("listening on", l.Addr())
	if err := s.Serve(l); err != nil {
		fmt.Fprintln(os.Stderr, "upstream:", err)
		os.Exit(1)
	}
}
