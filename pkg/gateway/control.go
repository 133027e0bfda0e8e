package gateway

import (
	"encoding/hex"
	"encoding/json"
	"net/http"
	"time"

	"github.com/gosix/gosix/pkg/plugin"
	"github.com/gosix/gosix/pkg/route"
)

// Sync is what the control API tells of the way from the store to the snapshot.
type Sync interface {
	// Observed is the revision of the newest configuration that came from the store.
	Observed() int64
	// Behind is how long the store has been out of reach, 0 while it is in reach.
	Behind() time.Duration
}

// Control serves the control API (spec/08 §1, spec/00 20): what is in force on this
// node, which is called id, and if sync is a Keeper, what is not. It has no authentication
// and belongs on a loopback address.
func Control(router *route.Router, sync Sync, id string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/config", func(w http.ResponseWriter, _ *http.Request) {
		s := router.Snapshot()
		digest := s.Digest()
		keeping, staleness := keptOf(sync)
		reply(w, http.StatusOK, struct {
			Revision  int64   `json:"revision"`
			Observed  int64   `json:"observed"`
			Digest    string  `json:"digest"`
			Staleness float64 `json:"staleness_s"`
			Rejected  int     `json:"rejected"`
			Node      string  `json:"node"`
			kept
		}{s.Revision(), max(sync.Observed(), s.Revision()), hex.EncodeToString(digest[:]), staleness.Seconds(), s.Rejections(), id, keeping})
	})
	mux.HandleFunc("GET /v1/config/rejected", func(w http.ResponseWriter, _ *http.Request) {
		type item struct {
			Key     string `json:"key"`
			Refused int64  `json:"refused_revision"`
			InForce int64  `json:"revision_in_force"`
			Reason  string `json:"reason"`
		}
		list := []item{}
		for _, r := range router.Snapshot().Rejected() {
			list = append(list, item{r.Key, r.Refused, r.InForce, r.Reason})
		}
		reply(w, http.StatusOK, list)
	})
	if keeper, ok := sync.(Keeper); ok {
		handleAccept(mux, keeper)
	}
	mux.HandleFunc("/", bareNotFound)
	return mux
}

// Status serves the status API (spec/08 §2). ready is closed once the node may serve, ending
// once it is to get no new clients.
func Status(ready, ending <-chan struct{}) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		statusReply(w, http.StatusOK, `{"status":"ok"}`)
	})
	mux.HandleFunc("GET /status/ready", func(w http.ResponseWriter, _ *http.Request) {
		select {
		case <-ending:
			statusReply(w, http.StatusServiceUnavailable, `{"status":"error","error":"the node is ending"}`)
			return
		default:
		}
		select {
		case <-ready:
			statusReply(w, http.StatusOK, `{"status":"ok"}`)
		default:
			statusReply(w, http.StatusServiceUnavailable, `{"status":"error","error":"worker id: 0 has not received configuration"}`)
		}
	})
	mux.HandleFunc("/", bareNotFound)
	return mux
}

func statusReply(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(body))
}

func bareNotFound(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(http.StatusNotFound)
	_, _ = w.Write(plugin.ErrorPage(http.StatusNotFound))
}

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}
