package route

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/gosix/gosix/pkg/store"
)

// manyRoutes are n routes over a thousand hosts, each with a plugin and its upstream.
func manyRoutes(n int) *world {
	w := newWorld()
	for i := range n {
		w.put(fmt.Sprintf("routes/%d", i), manyDoc(i, 0))
	}
	return w
}

func manyDoc(i, version int) string {
	return routeDoc(fmt.Sprintf(`"uri":"/api/%d/v1/*","host":"h%d.test","methods":["GET","POST"],"plugins":{"plain":{"n":%d}},"priority":%d`, i, i%1000, i, version))
}

func BenchmarkMatch(b *testing.B) {
	for _, router := range routers {
		for _, n := range []int{1, 1000, 100_000} {
			b.Run(fmt.Sprintf("%s/%d", router, n), func(b *testing.B) {
				f := follow(b, testEnv(router))
				f.apply(manyRoutes(n).reset())
				i := n / 2
				x := exchangeOf(fmt.Sprintf("GET h%d.test/api/%d/v1/chat/completions", i%1000, i))
				if idOf(f.snap.Match(x)) != fmt.Sprint(i) {
					b.Fatal("got another route")
				}
				b.ReportAllocs()
				b.ResetTimer()
				for b.Loop() {
					f.snap.Match(x)
				}
			})
		}
	}
}

// BenchmarkKept tells what a snapshot keeps of a plain route, whose document has 110 bytes.
func BenchmarkKept(b *testing.B) {
	const n = 20_000
	for b.Loop() {
		before := live()
		f := follow(b, testEnv(HostURI))
		f.apply(plainRoutes(n).reset())
		b.ReportMetric(float64(live()-before)/n, "B/route")
		runtime.KeepAlive(f)
	}
}

func plainRoutes(n int) *world {
	w := newWorld()
	for i := range n {
		w.put(fmt.Sprintf("routes/g%d", i), fmt.Sprintf(`{"uri":"/g%d","desc":"x","upstream":{"type":"roundrobin","nodes":{"127.0.0.1:80":1}}}`, i))
	}
	return w
}

// live is what the heap holds that is in use.
func live() int64 {
	runtime.GC()
	runtime.GC() // what pools keep goes with the second one
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func BenchmarkApplyOneOf100k(b *testing.B) {
	for _, router := range routers {
		b.Run(router, func(b *testing.B) {
			w := manyRoutes(100_000)
			f := follow(b, testEnv(router))
			f.apply(w.reset())
			version := 0
			b.ReportAllocs()
			b.ResetTimer()
			for b.Loop() {
				version++
				f.apply(w.batch(w.put("routes/50000", manyDoc(50_000, version))))
			}
		})
	}
}

// BenchmarkChurn changes 2,000 of 5,000 routes at once, each with an upstream of its own and
// no plugins.
func BenchmarkChurn(b *testing.B) {
	const routes, changed = 5000, 2000
	w := newWorld()
	put := func(i, version int) store.Event {
		return w.put(fmt.Sprintf("routes/h%d", i%routes), routeDoc(fmt.Sprintf(`"uri":"/h%d","desc":"%d"`, i%routes, version)))
	}
	for i := range routes {
		put(i, 0)
	}
	f := follow(b, testEnv(HostURI))
	f.apply(w.reset())
	from := 0
	var before, after runtime.MemStats
	var spent time.Duration
	var bytes, mallocs uint64
	for b.Loop() {
		events := make([]store.Event, changed)
		for i := range events {
			events[i] = put(from+i, from)
		}
		from += changed
		runtime.ReadMemStats(&before)
		begin := time.Now()
		if r := f.apply(w.batch(events...)); r.Compiled != changed {
			b.Fatalf("%d routes were compiled", r.Compiled)
		}
		spent += time.Since(begin)
		runtime.ReadMemStats(&after)
		bytes, mallocs = bytes+after.TotalAlloc-before.TotalAlloc, mallocs+after.Mallocs-before.Mallocs
	}
	keys := float64(b.N) * changed
	b.ReportMetric(float64(spent.Nanoseconds())/keys, "ns/key")
	b.ReportMetric(float64(bytes)/keys, "B/key")
	b.ReportMetric(float64(mallocs)/keys, "allocs/key")
}

func BenchmarkReset100k(b *testing.B) {
	w := manyRoutes(100_000)
	full := w.reset()
	b.Run("first", func(b *testing.B) {
		for b.Loop() {
			follow(b, testEnv(HostURI)).apply(full)
		}
	})
	b.Run("again", func(b *testing.B) {
		f := follow(b, testEnv(HostURI))
		f.apply(full)
		b.ResetTimer()
		for b.Loop() {
			f.apply(full)
		}
	})
}
