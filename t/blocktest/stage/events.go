package stage

import (
	"errors"
	"io"
	"net"
	"net/http"
	"time"
)

// eventsAddr is where suites expect a service of theirs, which sends five events and then
// that it is done.
const eventsAddr = "127.0.0.1:7737"

// serveEvents starts that service. Its path is that of a chat completion.
func serveEvents() (*http.Server, error) {
	l, err := net.Listen("tcp", eventsAddr)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/v1/chat/completions", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		tick := time.NewTicker(500 * time.Millisecond) // suites count on seeing them come one by one
		defer tick.Stop()
		flusher := http.NewResponseController(w)
		for range 5 {
			_, err := io.WriteString(w, "data: "+time.Now().Format(time.RFC3339)+"\n\n")
			if errors.Join(err, flusher.Flush()) != nil {
				return
			}
			select {
			case <-tick.C:
			case <-r.Context().Done():
				return
			}
		}
		_, _ = io.WriteString(w, "data: [DONE]\n\n")
	})
	s := &http.Server{Handler: mux, ReadHeaderTimeout: patience}
	go func() { _ = s.Serve(l) }()
	return s, nil
}
