package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Clients use the Admin API at random: some read and write single routes, whose history is
// checked; some make and remove things that hang together.
type Clients struct {
	w       *World
	History *History
	keys    int

	stop    context.CancelFunc
	running sync.WaitGroup
	value   atomic.Int64

	mu       sync.Mutex
	answers  map[string]int // by status
	wrong    []string
	slowest  time.Duration // of all answers
	broken   []string      // what was seen in etcd that hangs in the air
	looked   int
	acked    int
	unknowns int
}

// NewClients starts them.
func (w *World) NewClients(single, together, keys int) *Clients {
	ctx, cancel := context.WithCancel(context.Background())
	c := &Clients{w: w, History: newHistory(), keys: keys, stop: cancel, answers: map[string]int{}}
	w.Later(c.End)
	for i := range single + together {
		seed := w.Rand.Uint64()
		c.running.Go(func() {
			next := seed
			// A generator of its own, as simple as can be: the scenario's is not for many.
			chance := func(n int) int {
				next ^= next << 13
				next ^= next >> 7
				next ^= next << 17
				return int(next % uint64(n))
			}
			for ctx.Err() == nil {
				if i < single {
					c.single(i, chance)
				} else {
					c.together(i, chance)
				}
				_ = pause(ctx, time.Duration(chance(20))*time.Millisecond)
			}
		})
	}
	if together > 0 {
		c.running.Go(func() {
			for pause(ctx, 100*time.Millisecond) == nil {
				c.look(ctx)
			}
		})
	}
	return c
}

// End stops the clients.
func (c *Clients) End() {
	c.stop()
	c.running.Wait()
}

// call makes a call through any admin and sorts the answer. happened is false when it surely
// did not.
func (c *Clients) call(chance func(int) int, method, path, body string, fine ...int) (a Answer, happened bool) {
	admin := c.w.Admins[chance(len(c.w.Admins))]
	a = admin.Call(context.Background(), method, path, body)
	c.mu.Lock()
	defer c.mu.Unlock()
	word := fmt.Sprint(a.Status)
	switch {
	case a.Refused():
		word = "nobody listens"
	case a.Unknown():
		word = "unknown"
		c.unknowns++
	case slices.Contains(fine, a.Status):
		c.acked++
		happened = true
	case a.Status == http.StatusServiceUnavailable:
	default:
		c.wrong = append(c.wrong, fmt.Sprintf("%s %s: %d %.200s", method, path, a.Status, a.Body))
	}
	c.answers[word]++
	if a.Status != 0 {
		c.slowest = max(c.slowest, a.Took)
	}
	return a, happened
}

// single reads or writes a route.
func (c *Clients) single(client int, chance func(int) int) {
	key := fmt.Sprintf("k%d", chance(c.keys))
	began := c.History.Now()
	switch n := chance(100); {
	case n < 50:
		value := fmt.Sprint("v", c.value.Add(1))
		a, happened := c.call(chance, http.MethodPut, "/routes/"+key, c.w.route("/"+key, value), 200, 201)
		if happened || a.Unknown() {
			c.History.Add(client, began, call{opPut, key, value}, outcome{Unknown: !happened})
		}
	case n < 65:
		a, happened := c.call(chance, http.MethodDelete, "/routes/"+key, "", 200, 404)
		if happened || a.Unknown() {
			c.History.Add(client, began, call{opDelete, key, ""}, outcome{Unknown: !happened, Found: a.Status == 200})
		}
	default:
		if a, happened := c.call(chance, http.MethodGet, "/routes/"+key, "", 200, 404); happened {
			value := ""
			if a.Status == 200 {
				value = descOf([]byte(a.Body))
			}
			c.History.Add(client, began, call{opGet, key, ""}, outcome{Found: value != "", Value: value})
		}
	}
}

// descOf finds the desc of a document or of an answer with one.
func descOf(text []byte) string {
	var doc struct {
		Desc  string `json:"desc"`
		Value struct {
			Desc string `json:"desc"`
		} `json:"value"`
	}
	_ = json.Unmarshal(text, &doc)
	return doc.Desc + doc.Value.Desc
}

// together makes a consumer with credentials and removes it, which takes them along; and
// services with routes on them, which a service must not be removed under.
func (c *Clients) together(_ int, chance func(int) int) {
	name := fmt.Sprintf("c%d", chance(4))
	switch chance(7) {
	case 0:
		c.call(chance, http.MethodPut, "/consumers", fmt.Sprintf(`{"username":%q}`, name), 200, 201)
	case 1, 2:
		id := chance(3)
		c.call(chance, http.MethodPut, fmt.Sprintf("/consumers/%s/credentials/%d", name, id),
			fmt.Sprintf(`{"plugins":{"key-auth":{"key":"key-%s-%d"}}}`, name, id), 200, 201, 404)
	case 3:
		c.call(chance, http.MethodDelete, "/consumers/"+name, "", 200, 404)
	case 4:
		c.call(chance, http.MethodPut, "/services/s"+name, fmt.Sprintf(`{"upstream":{"type":"roundrobin","nodes":{%q:1}}}`, c.w.Upstream), 200, 201)
	case 5:
		// 400: there is no such service.
		c.call(chance, http.MethodPut, "/routes/r"+name, fmt.Sprintf(`{"uri":"/r%s","service_id":"s%s"}`, name, name), 200, 201, 400)
	default:
		if chance(2) == 0 {
			c.call(chance, http.MethodDelete, "/routes/r"+name, "", 200, 404)
			return
		}
		// 400: it is in use.
		c.call(chance, http.MethodDelete, "/services/s"+name, "", 200, 404, 400)
	}
}

// look reads what etcd holds at one revision.
func (c *Clients) look(ctx context.Context) {
	content, err := c.w.Etcd.Content(ctx)
	if err != nil {
		return // it is away, as it may be
	}
	found := dangling(content.Items)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.looked++
	for _, f := range found {
		if !slices.Contains(c.broken, f) {
			c.broken = append(c.broken, f)
		}
	}
}

// dangling finds credentials without their consumer and routes without their service.
func dangling(items map[string]StoredItem) (found []string) {
	for key, it := range items {
		rest := strings.TrimPrefix(key, prefix+"/")
		if consumer, _, ok := strings.Cut(rest, "/credentials/"); ok {
			if _, there := items[prefix+"/"+consumer]; !there {
				found = append(found, rest+" has no consumer")
			}
		}
		if strings.HasPrefix(rest, "routes/") {
			var doc struct {
				Service string `json:"service_id"`
			}
			_ = json.Unmarshal(it.Value, &doc)
			if _, there := items[prefix+"/services/"+doc.Service]; doc.Service != "" && !there {
				found = append(found, rest+" has no service "+doc.Service)
			}
		}
	}
	slices.Sort(found)
	return found
}

// Judge ends the clients, reads everything once more, and says what came of it.
func (c *Clients) Judge(ctx context.Context) error {
	c.End()
	content, err := c.w.Etcd.Content(ctx)
	if err != nil {
		return err
	}
	for i := range c.keys {
		key := fmt.Sprintf("k%d", i)
		value := descOf(content.Items[prefix+"/routes/"+key].Value)
		c.History.Add(-1, c.History.Now(), call{opGet, key, ""}, outcome{Found: value != "", Value: value})
	}
	if c.looked > 0 {
		c.look(ctx)
		c.w.None("revisions of etcd at which something hung in the air", c.broken, c.looked)
	}
	c.w.None("answers of the Admin API that should not be", c.wrong, c.acked)
	bad, keys, decided := c.History.Check(time.Minute)
	for _, key := range bad[:min(1, len(bad))] {
		c.w.say("history of %s:\n%s", key, c.History.Describe(key))
	}
	c.w.None("keys whose history no order explains (linearizable, acknowledged is never lost)", bad, keys)
	if !decided {
		c.w.Check("the history was judged", "too many orders to try", "", false)
	}
	c.w.Note("operations in the history, and answers", fmt.Sprintf("%d, %v", c.History.Len(), c.answers))
	return nil
}
