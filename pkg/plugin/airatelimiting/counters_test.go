package airatelimiting

import (
	"encoding/json"
	"fmt"
	"hash/maphash"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gosix/gosix/pkg/plugin"
)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func TestAWindowBeginsWithItsFirstQuestionAndAfterItsEnd(t *testing.T) {
	var c counter
	w := c.at(epoch, 60)
	w.add(7)
	if again := c.at(epoch.Add(59*time.Second), 10); again != w || again.used.Load() != 7 {
		t.Error("a window in force was replaced")
	}
	fresh := c.at(epoch.Add(60*time.Second), 10)
	if fresh == w || fresh.used.Load() != 0 || !fresh.end.Equal(epoch.Add(70*time.Second)) {
		t.Errorf("got %v with %d", fresh.end, fresh.used.Load())
	}
	if endless := new(counter).at(epoch, math.MaxInt64); !endless.end.After(epoch.AddDate(90, 0, 0)) {
		t.Errorf("a long window ends at %v", endless.end)
	}
}

func TestSumsDoNotOverflow(t *testing.T) {
	w := new(counter).at(epoch, 1)
	for range 2000 {
		w.add(maxCost)
	}
	if w.used.Load() <= 0 {
		t.Errorf("got %d", w.used.Load())
	}
}

func TestNothingIsLostWhenManyCount(t *testing.T) {
	tab := &table{seed: maphash.MakeSeed()}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for n := range 1000 {
				tab.find(fmt.Sprint("key", n%10), epoch).at(epoch, 60).add(1)
			}
		})
	}
	wg.Wait()
	for n := range 10 {
		if got := tab.find(fmt.Sprint("key", n), epoch).at(epoch, 60).used.Load(); got != 800 {
			t.Errorf("key %d: got %d, want 800", n, got)
		}
	}
}

func TestKeysAreBounded(t *testing.T) {
	tab := &table{seed: maphash.MakeSeed()}
	tab.find("heavy", epoch).at(epoch, 3600).add(1000)
	for n := range 2 * shards * perShard {
		tab.find(fmt.Sprint("key", n), epoch).at(epoch, 3600).add(1)
	}
	kept := 0
	for n := range tab.shards {
		if len(tab.shards[n].keys) > perShard {
			t.Errorf("shard %d has %d keys", n, len(tab.shards[n].keys))
		}
		kept += len(tab.shards[n].keys)
	}
	if kept < shards*perShard/2 {
		t.Errorf("only %d keys are kept", kept)
	}
	if got := tab.find("heavy", epoch).at(epoch, 3600).used.Load(); got != 1000 {
		t.Errorf("the key that is used most was forgotten: %d", got)
	}
}

func TestWhatIsOverMakesRoomFirst(t *testing.T) {
	s := &shard{keys: map[string]*counter{}}
	for n := range 3 {
		c := &counter{}
		c.at(epoch, 10).add(int64(n))
		s.keys[fmt.Sprint(n)] = c
	}
	over := &counter{}
	over.at(epoch, 1).add(100)
	s.keys["over"] = over
	s.makeRoom(epoch.Add(5 * time.Second))
	if s.keys["over"] != nil || len(s.keys) != 3 {
		t.Errorf("left: %v", s.keys)
	}
}

func TestLongKeysAreKeptAsDigests(t *testing.T) {
	tab := &table{seed: maphash.MakeSeed()}
	long := strings.Repeat("x", 1000)
	tab.find(long, epoch).at(epoch, 60).add(5)
	if tab.find(long, epoch).at(epoch, 60).used.Load() != 5 || tab.find(long+"y", epoch).at(epoch, 60).used.Load() != 0 {
		t.Error("two long keys are one, or one is two")
	}
	for n := range tab.shards {
		for key := range tab.shards[n].keys {
			if len(key) > longKey {
				t.Errorf("a key of %d bytes is kept", len(key))
			}
		}
	}
}

func TestCountersOutliveAllButAChangeOfTheirOwnConfiguration(t *testing.T) {
	r := plugin.NewRegistry(plugin.Settings{}, Definition())
	compile := func(kind, id, conf string, prev *plugin.Chain) (*counters, *plugin.Chain) {
		t.Helper()
		c, err := r.Compile(plugin.Source{Name: name, Conf: json.RawMessage(conf), Parent: plugin.Ref{Kind: kind, ID: id}}, plugin.Labels{}, nil, prev)
		if err != nil {
			t.Fatal(err)
		}
		return c.Phases.State.(*limiter).counters, plugin.NewChain([]*plugin.Compiled{c})
	}
	const a, b = `{"limit":1,"time_window":1}`, `{"limit":2,"time_window":1}`
	first, chain := compile("services", "1", a, nil)
	if other, _ := compile("services", "1", a, nil); other != first {
		t.Error("two routes of one service do not share")
	}
	if next, _ := compile("services", "1", a, chain); next != first {
		t.Error("an equal configuration begins anew")
	}
	if other, _ := compile("services", "2", a, nil); other == first {
		t.Error("two services share")
	}
	changed, after := compile("services", "1", b, chain)
	if changed == first {
		t.Error("a changed configuration goes on")
	}
	if back, _ := compile("services", "1", a, after); back == first {
		t.Error("a configuration that is back goes on")
	}
}
