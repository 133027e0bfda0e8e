package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"
)

// opKind is what a client of the Admin API did to one key.
type opKind string

const (
	opPut    opKind = "put"
	opDelete opKind = "delete"
	opGet    opKind = "get"
)

// call is the input of an operation.
type call struct {
	Kind  opKind
	Key   string
	Value string // of a put: unique in a history
}

// outcome is the output of an operation.
type outcome struct {
	Unknown bool   // nobody said whether it happened
	Found   bool   // of a get and of a delete: something was there
	Value   string // of a get
}

// History is what clients did and what they were told. It is safe for concurrent use.
type History struct {
	mu    sync.Mutex
	begin time.Time
	ops   []porcupine.Operation
}

func newHistory() *History { return &History{begin: time.Now()} }

// Now is a time of the history's clock.
func (h *History) Now() int64 { return int64(time.Since(h.begin)) }

// Add records an operation. One whose outcome is unknown may take effect at any time after its
// call, or never; never is the same as after everything else.
func (h *History) Add(client int, began int64, in call, out outcome) {
	ended := h.Now()
	if out.Unknown {
		ended = math.MaxInt64
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, porcupine.Operation{ClientId: client, Input: in, Call: began, Output: out, Return: ended})
}

// Len is the number of operations.
func (h *History) Len() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.ops)
}

// register is a key of the Admin API: it holds the value of the last put, "" for nothing.
var register = porcupine.Model{
	Partition: func(ops []porcupine.Operation) [][]porcupine.Operation {
		byKey := map[string][]porcupine.Operation{}
		for _, op := range ops {
			key := op.Input.(call).Key
			byKey[key] = append(byKey[key], op)
		}
		var parts [][]porcupine.Operation
		for _, part := range byKey {
			parts = append(parts, part)
		}
		return parts
	},
	Init: func() any { return "" },
	Step: func(state, input, output any) (bool, any) {
		now, in, out := state.(string), input.(call), output.(outcome)
		switch in.Kind {
		case opPut:
			return true, in.Value
		case opDelete:
			return out.Unknown || out.Found == (now != ""), ""
		}
		return out.Unknown || out.Value == now && out.Found == (now != ""), now
	},
}

// Check tells which keys' histories no single order of operations explains. decided is false
// when that could not be found out in time.
func (h *History) Check(limit time.Duration) (bad []string, keys int, decided bool) {
	h.mu.Lock()
	ops := slices.Clone(h.ops)
	h.mu.Unlock()
	decided = true
	parts := register.Partition(ops)
	end := time.Now().Add(limit)
	for _, part := range parts {
		switch porcupine.CheckOperationsTimeout(register, part, max(time.Until(end), time.Millisecond)) {
		case porcupine.Illegal:
			bad = append(bad, part[0].Input.(call).Key)
		case porcupine.Unknown:
			decided = false
		}
	}
	slices.Sort(bad)
	return bad, len(parts), decided
}

// Describe prints a key's history, for a person.
func (h *History) Describe(key string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var b strings.Builder
	for _, op := range h.ops {
		in, out := op.Input.(call), op.Output.(outcome)
		if in.Key == key {
			fmt.Fprintf(&b, "client %d [%d, %d] %s %q -> %+v\n", op.ClientId, op.Call, op.Return, in.Kind, in.Value, out)
		}
	}
	return b.String()
}
