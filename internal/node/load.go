package node

import (
	"os"
	"runtime/debug"
)

// loadingGC is the garbage, in percent of what is in use, that is let lie while a gateway
// loads its first state.
const loadingGC = 50

// loading makes the garbage collector thorough until done is called: a first load leaves as
// much garbage as it keeps, which the process would have as its memory from then on. GOGC in
// the environment, the operator's word, stands.
func loading() (done func()) {
	if os.Getenv("GOGC") != "" {
		return func() {}
	}
	before := debug.SetGCPercent(loadingGC)
	return func() { debug.SetGCPercent(before) }
}
