// Package porttest gives out ports of the loopback to programs under test that have to be
// told of one, or that come back to theirs. It does not know what listens there.
package porttest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
)

// next is the port that Free tries next: below those that the kernel gives to connections and
// to who asks for any, so that a program that is started again finds its own free. Processes
// begin in different places.
var next = struct {
	sync.Mutex
	port int
}{port: first + rand.N(count)}

const (
	first = 12000
	count = 18000
)

// Free finds a port of host that nobody has and that no one was given before in this process:
// whoever was given one may be about to listen there, or away for a while.
func Free(host string) (int, error) {
	next.Lock()
	defer next.Unlock()
	var err error
	for range count {
		port := next.port
		if next.port++; next.port == first+count {
			next.port = first
		}
		var l net.Listener
		if l, err = net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port))); err == nil {
			return port, l.Close()
		}
	}
	return 0, errors.Join(fmt.Errorf("no port from %d to %d is free", first, first+count-1), err)
}
