package aiproxy

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// histogram counts times in steps of about an eighth, from 1 ms to an hour. Older ones
// count less: every so often all counts are halved. It is safe for concurrent use and has
// no lock; a count that is lost between two of them does not matter.
type histogram struct {
	total   atomic.Uint32
	buckets [buckets]atomic.Uint32
}

const (
	buckets    = 160
	halveAt    = 1024 // samples
	fewSamples = 20   // of fewer there are no percentiles
)

func bucketOf(d time.Duration) int {
	n := uint64(max(0, d.Milliseconds()))
	if n < 8 {
		return int(n)
	}
	exponent := bits.Len64(n) - 4 // the four highest bits say where
	return min(8*exponent+int(n>>exponent), buckets-1)
}

// upper is the longest time that a bucket stands for.
func upper(bucket int) time.Duration {
	if bucket < 8 {
		return time.Duration(bucket+1) * time.Millisecond
	}
	exponent := bucket/8 - 1
	return time.Duration(uint64(bucket%8+9)<<exponent) * time.Millisecond
}

func (h *histogram) add(d time.Duration) {
	h.buckets[bucketOf(d)].Add(1)
	if h.total.Add(1) != halveAt {
		return
	}
	sum := uint32(0)
	for i := range h.buckets {
		n := h.buckets[i].Load() / 2
		h.buckets[i].Store(n)
		sum += n
	}
	h.total.Store(sum)
}

// percentile is the time that p of a hundred samples do not exceed; 0: too few are known.
func (h *histogram) percentile(p int) time.Duration {
	total := h.total.Load()
	if total < fewSamples {
		return 0
	}
	want := (uint64(total)*uint64(p) + 99) / 100
	sum := uint64(0)
	for i := range h.buckets {
		if sum += uint64(h.buckets[i].Load()); sum >= want {
			return upper(i)
		}
	}
	return upper(buckets - 1)
}
