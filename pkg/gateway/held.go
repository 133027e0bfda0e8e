package gateway

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/gosix/gosix/pkg/jsonedit"
	"github.com/gosix/gosix/pkg/store/lastgood"
)

// Keeper is a Sync that may serve from disk, and hold back what the store says. Control
// tells of it, and lets what is held be accepted.
type Keeper interface {
	Sync
	Status() lastgood.Status
	Accept(ctx context.Context, revision int64) (lastgood.Held, error)
}

// kept is what GET /v1/config says of a Keeper.
type kept struct {
	Source  lastgood.Origin `json:"source,omitempty"`
	Saved   *time.Time      `json:"saved,omitempty"`   // when what is served from disk was written
	Waiting string          `json:"waiting,omitempty"` // why nothing is in force
	Held    *held           `json:"held,omitempty"`
}

// held is what the store holds and is not in force.
type held struct {
	Cause     string    `json:"cause"`
	Revision  int64     `json:"revision"`
	ClusterID string    `json:"cluster_id"` // as the marker key names it
	InForce   int       `json:"objects_in_force"`
	Offered   int       `json:"objects_offered"`
	Since     time.Time `json:"since"`
}

func heldOf(h *lastgood.Held) *held {
	return &held{h.Cause.String(), h.Revision, lastgood.ClusterText(h.ClusterID), h.InForce, h.Offered, h.Since.UTC().Round(0)}
}

// keptOf also returns the staleness: what is held is not in force, however close the store.
func keptOf(sync Sync) (k kept, staleness time.Duration) {
	staleness = sync.Behind()
	keeper, ok := sync.(Keeper)
	if !ok {
		return k, staleness
	}
	s := keeper.Status()
	k.Source, k.Waiting = s.Origin, s.Waiting
	if s.Origin == lastgood.OfDisk {
		saved := s.Saved.UTC()
		k.Saved = &saved
	}
	if s.Held != nil {
		k.Held = heldOf(s.Held)
		staleness = max(staleness, time.Since(s.Held.Since))
	}
	return k, staleness
}

const (
	acceptBody = 4 << 10 // bytes
	acceptTime = 10 * time.Second
)

// handleAccept serves POST /v1/config/accept.
func handleAccept(mux *http.ServeMux, keeper Keeper) {
	refuse := func(w http.ResponseWriter, status int, text string) {
		reply(w, status, map[string]string{"error_msg": text})
	}
	// Whoever reaches the address may call it, but for pages that a browser on this machine
	// shows.
	mux.Handle("POST /v1/config/accept", http.NewCrossOriginProtection().Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, acceptBody))
		if err != nil {
			refuse(w, http.StatusBadRequest, "invalid request body: "+err.Error())
			return
		}
		revision, err := acceptedRevision(body)
		if err != nil {
			refuse(w, http.StatusBadRequest, "invalid request body: "+err.Error())
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), acceptTime)
		defer cancel()
		h, err := keeper.Accept(ctx, revision)
		switch {
		case errors.Is(err, lastgood.ErrNothingHeld) || errors.As(err, new(*lastgood.RevisionError)):
			refuse(w, http.StatusConflict, err.Error())
		case err != nil:
			refuse(w, http.StatusServiceUnavailable, err.Error())
		default:
			reply(w, http.StatusOK, map[string]*held{"accepted": heldOf(&h)})
		}
	})))
}

// acceptedRevision reads {"revision": N}; without a body, or a revision in it, it is 0.
func acceptedRevision(body []byte) (int64, error) {
	if len(body) == 0 {
		return 0, nil
	}
	doc, err := jsonedit.Index(body, jsonedit.Options{MaxDepth: 4, Duplicates: true})
	if err != nil {
		return 0, err
	}
	if doc.Kind() != jsonedit.Object {
		return 0, errors.New("it must be an object")
	}
	for _, m := range doc.Members() {
		if m.Name != "revision" {
			return 0, errors.New("unknown member " + strconv.Quote(m.Name))
		}
	}
	raw, _, ok := doc.Get("revision")
	if !ok {
		return 0, nil
	}
	n, err := strconv.ParseInt(string(raw), 10, 64)
	if err != nil || n <= 0 {
		return 0, errors.New("revision must be a whole number above 0")
	}
	return n, nil
}
