package stage

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"time"
)

// eventsAddr is where suites expect a language model of theirs, at the path of a chat
// completion. It counts 15 and 20 tokens, whatever it is asked. A streamed answer is five
// events and then that it is done, one by one; with delay=true in the query there are 200 ms
// before each. The first has words already: an event without any is held back by the gateway
// until there is one, and no time to the first token is counted from it.
const eventsAddr = "127.0.0.1:7737"

const (
	eventGap   = 50 * time.Millisecond // so that each is a piece of its own where it is read
	eventDelay = 200 * time.Millisecond
)

const wholeAnswer = `{"id":"stage-1","object":"chat.completion","created":1700000000,"model":"stage",
"choices":[{"index":0,"message":{"role":"assistant","content":"Thus: all the world's a stage."},"finish_reason":"stop"}],
"usage":{"prompt_tokens":15,"completion_tokens":20,"total_tokens":35}}
`

// events are what a streamed answer consists of.
var events = []string{
	`{"id":"stage-1","object":"chat.completion.chunk","created":1700000000,"model":"stage","choices":[{"index":0,"delta":{"role":"assistant","content":"Thus"},"finish_reason":null}]}`,
	`{"id":"stage-1","object":"chat.completion.chunk","created":1700000000,"model":"stage","choices":[{"index":0,"delta":{"content":": all the world's"},"finish_reason":null}]}`,
	`{"id":"stage-1","object":"chat.completion.chunk","created":1700000000,"model":"stage","choices":[{"index":0,"delta":{"content":" a stage,"},"finish_reason":null}]}`,
	`{"id":"stage-1","object":"chat.completion.chunk","created":1700000000,"model":"stage","choices":[{"index":0,"delta":{"content":" and all the models merely players."},"finish_reason":null}]}`,
	`{"id":"stage-1","object":"chat.completion.chunk","created":1700000000,"model":"stage","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":15,"completion_tokens":20,"total_tokens":35}}`,
	`[DONE]`,
}

// serveEvents starts that model.
func serveEvents() (*http.Server, error) {
	l, err := net.Listen("tcp", eventsAddr)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/v1/chat/completions", complete)
	s := &http.Server{Handler: mux, ReadHeaderTimeout: patience}
	go func() { _ = s.Serve(l) }()
	return s, nil
}

func complete(w http.ResponseWriter, r *http.Request) {
	var asked struct{ Stream bool }
	_ = json.NewDecoder(r.Body).Decode(&asked) // what is no JSON asks for no stream
	if !asked.Stream {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, wholeAnswer)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	gap := eventGap
	if r.URL.Query().Get("delay") == "true" {
		gap = eventDelay
	}
	tick := time.NewTicker(gap)
	defer tick.Stop()
	flusher := http.NewResponseController(w)
	for _, event := range events {
		select {
		case <-tick.C:
		case <-r.Context().Done():
			return
		}
		_, err := io.WriteString(w, "data: "+event+"\n\n")
		if errors.Join(err, flusher.Flush()) != nil {
			return
		}
	}
}
