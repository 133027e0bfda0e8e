package adminapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/gosix/gosix/pkg/cluster"
	"github.com/gosix/gosix/pkg/store"
)

// defaultWait is how long a write waits for the nodes unless it says itself.
const defaultWait = 2 * time.Second

// readWait takes the arguments wait and timeout of a write (spec/00 8); false if it answered.
func (a *API) readWait(q *request) bool {
	what, given := q.GetQuery("wait")
	if !given || q.Request.Method == http.MethodGet {
		return true
	}
	refuse := func(text string) bool {
		a.fail(q.Context, http.StatusBadRequest, text)
		return false
	}
	if what != "applied" {
		return refuse("invalid argument wait: should be applied")
	}
	if a.o.Cluster == nil {
		return refuse("invalid argument wait: this process knows no nodes")
	}
	q.wait = defaultWait
	if text, given := q.GetQuery("timeout"); given {
		var err error
		if q.wait, err = seconds(text); err != nil || q.wait <= 0 || q.wait > cluster.MaxWait {
			return refuse("invalid argument timeout: should be a time such as 2s or 500ms, above 0 and at most " + cluster.MaxWait.String())
		}
	}
	return true
}

// seconds reads a time with a unit, or a number of seconds.
func seconds(text string) (time.Duration, error) {
	n, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return time.ParseDuration(text)
	}
	if math.IsNaN(n) || math.Abs(n) > cluster.MaxWait.Seconds() {
		return 0, strconv.ErrRange
	}
	return time.Duration(n * float64(time.Second)), nil
}

// commit is a write's. One that waits asks the nodes in the same transaction.
func (a *API) commit(q *request, conds []store.Cond, ops []store.Op) (store.Result, error) {
	ctx := q.Request.Context()
	if err := a.timely(q); err != nil {
		return store.Result{}, err
	}
	if q.wait == 0 {
		return a.o.Store.Commit(ctx, conds, ops)
	}
	for again := false; ; again = true {
		ask, err := a.o.Cluster.Ask(ctx)
		if err != nil {
			return store.Result{}, err
		}
		if err := a.timely(q); err != nil {
			return store.Result{}, err
		}
		res, err := a.o.Store.Commit(ctx, conds, append(ops[:len(ops):len(ops)], ask))
		if again || !errors.Is(err, store.ErrNoLease) {
			return res, err
		}
		a.o.Cluster.Forget()
	}
}

// written answers a write that is stored: with body and status, or, where it was to be waited
// for and is not in force everywhere, with 202 and what is.
func (a *API) written(q *request, res store.Result, status int, body []byte) {
	revision(q.Context, res)
	if a.o.Cluster != nil {
		a.o.Cluster.Wrote(res.Revision)
	}
	if q.wait > 0 {
		ctx, cancel := context.WithTimeout(q.client, q.wait)
		defer cancel()
		s := a.o.Cluster.Wait(ctx, res.Revision)
		status, body = standing(q, &s, status, body)
	}
	a.json(q.Context, status, body)
}

// awaitWritten waits for what was written without asking.
func (a *API) awaitWritten(q *request, revision int64) cluster.Standing {
	ctx, cancel := context.WithTimeout(q.Request.Context(), q.wait)
	defer cancel()
	ask, err := a.o.Cluster.AskFor(ctx, revision)
	if err == nil {
		_, err = a.o.Store.Commit(ctx, nil, []store.Op{ask})
	}
	if errors.Is(err, store.ErrNoLease) {
		a.o.Cluster.Forget()
	}
	if err != nil {
		return cluster.Standing{Revision: revision}
	}
	return a.o.Cluster.Wait(ctx, revision)
}

// standing adds to an answer how far the nodes are. body is an object.
func standing(q *request, s *cluster.Standing, status int, body []byte) (int, []byte) {
	if !s.Known {
		q.Header("X-Gosix-Applied", "unknown")
	} else {
		q.Header("X-Gosix-Applied", fmt.Sprintf("%d/%d", s.Applied, len(s.Nodes)))
	}
	if s.Done() {
		return status, body
	}
	type progress struct {
		ID        string             `json:"id"`
		Addresses []string           `json:"addresses"`
		Applied   int64              `json:"applied"`
		InForce   bool               `json:"in_force"`
		Held      bool               `json:"held,omitempty"`
		Rejected  []cluster.Rejected `json:"rejected,omitempty"`
	}
	table, refusing, holding := make([]progress, 0, len(s.Nodes)), 0, 0
	for _, n := range s.Nodes {
		table = append(table, progress{n.ID, n.Addresses, n.Applied, n.Done, n.Held, n.Rejected})
		if len(n.Rejected) > 0 {
			refusing++
		}
		if n.Held {
			holding++
		}
	}
	text := fmt.Sprintf("the write is done, at revision %d, and stays; ", s.Revision)
	switch {
	case !s.Known:
		text += "of the nodes nothing is known"
	case refusing > 0:
		q.Header("X-Gosix-Rejected", strconv.Itoa(refusing))
		text += fmt.Sprintf("%d of %d nodes have it in force, %d refuse it", s.Applied, len(s.Nodes), refusing)
	case holding > 0:
		text += fmt.Sprintf("%d of %d nodes have it in force, %d hold back what the store has, until it is accepted", s.Applied, len(s.Nodes), holding)
	default:
		text += fmt.Sprintf("%d of %d nodes have it in force after %v", s.Applied, len(s.Nodes), q.wait)
	}
	nodes, _ := json.Marshal(table) // texts and numbers
	more := fmt.Sprintf(`,"message":%s,"revision":%d,"nodes":%s}`, quoted(text), s.Revision, nodes)
	return http.StatusAccepted, append(body[:len(body)-1:len(body)-1], more...)
}

// nodes serves /nodes and /nodes/{id}: the gateway nodes and what each has in force.
func (a *API) nodes(q *request) {
	if a.o.Cluster == nil || len(q.steps) > 2 {
		a.fail(q.Context, http.StatusNotFound, "not found")
		return
	}
	if q.Request.Method != http.MethodGet {
		a.fail(q.Context, http.StatusMethodNotAllowed, "not supported `"+q.Request.Method+"` method for nodes")
		return
	}
	all, err := a.o.Cluster.Nodes(q.Request.Context())
	if err != nil {
		a.failed(q.Context, err)
		return
	}
	answer := any(all)
	if id := q.step(1); id != "" {
		answer = nil
		for i := range all.Nodes {
			if all.Nodes[i].ID == id {
				answer = &all.Nodes[i]
			}
		}
		if answer == nil {
			a.failed(q.Context, errKeyNotFound)
			return
		}
	}
	body, _ := json.Marshal(answer) // texts and numbers
	a.json(q.Context, http.StatusOK, body)
}
