package gateway

import (
	"fmt"
	"net/http"
	"os"
	"testing"

	"github.com/gosix/gosix/internal/leaktest"
)

const engineVariable = "GOSIX_ENGINE"

// engineUnderTest is the engine that the tests of this package run over: each of them runs over
// every engine. GOSIX_ENGINE names one if it is to be one.
var engineUnderTest = EngineStd

func TestMain(m *testing.M) {
	engines := []string{EngineStd, EngineFast}
	if one := os.Getenv(engineVariable); one != "" {
		engines = []string{one}
	}
	code := 0
	for _, engineUnderTest = range engines {
		failed := m.Run()
		http.DefaultClient.CloseIdleConnections()
		if err := leaktest.Find(); err != nil && failed == 0 {
			fmt.Println(err)
			failed = 1
		}
		if failed != 0 {
			fmt.Println("over the engine", engineUnderTest)
			code = failed
		}
	}
	os.Exit(code)
}

// tunnels are those of the engine.
func (w *world) tunnels() *tunnels {
	if e, ok := w.engine.(*Fast); ok {
		return &e.std.tunnels
	}
	return &w.engine.(*Std).tunnels
}
