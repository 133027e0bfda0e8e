// Command profiled is the data plane of cmd/gateway with an address at which a profile of it
// can be taken and its allocations are counted. It is for measurements alone: the shipped
// programs have no such address.
package main

import (
	"flag"
	"fmt"
	"net/http"
	"net/http/pprof"
	"os"
	"runtime"

	"github.com/gosix/gosix/internal/node"
	"github.com/gosix/gosix/pkg/config"
)

func main() {
	conf := flag.String("c", "", "settings")
	listen := flag.String("pprof", "127.0.0.1:0", "address of the profiles")
	flag.Parse()
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/allocs", func(w http.ResponseWriter, _ *http.Request) {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		_, _ = fmt.Fprintf(w, "%d %d %d\n", m.Mallocs, m.TotalAlloc, m.NumGC)
	})
	go func() {
		fmt.Fprintln(os.Stderr, "profiled:", http.ListenAndServe(*listen, mux))
		os.Exit(1)
	}()
	if err := node.Main(*conf, config.ProgramGateway, node.Parts{}, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "profiled:", err)
		os.Exit(1)
	}
}
