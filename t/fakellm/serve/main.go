// Command serve runs the fake provider: go run ./t/fakellm/serve -listen 127.0.0.1:8000
package main

import (
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/gosix/gosix/t/fakellm"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "address")
	name := flag.String("name", "fakellm", "how it calls itself")
	flag.Parse()
	l, err := net.Listen("tcp", *listen)
	if err != nil {
		fmt.Fprintln(os.Stderr, "fakellm:", err)
		os.Exit(1)
	}
	fmt.Println("http://" + l.Addr().String())
	s := &http.Server{Handler: fakellm.New(*name), ReadHeaderTimeout: 10 * time.Second}
	if err := s.Serve(l); err != nil {
		fmt.Fprintln(os.Stderr, "fakellm:", err)
		os.Exit(1)
	}
}
