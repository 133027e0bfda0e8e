package upstream

import (
	"time"

	"github.com/gosix/gosix/pkg/socket"
)

// moment is a time by the monotonic clock, counted from when the program began. Asking for
// it costs less than time.Now.
type moment time.Duration

var began = time.Now()

func now() moment { return moment(time.Since(began)) }

func (m moment) time() time.Time { return began.Add(time.Duration(m)) }

// limit is how long one direction of a connection may wait. To set a socket's deadline
// costs as much as a small call of the kernel, and nearly every wait ends long before it. So
// a deadline that was set for an earlier wait stays as long as it comes neither too late for
// this one nor soon; it wakes up who waits, who then goes on until the limit.
type limit struct {
	of  time.Duration // 0: none
	due moment        // when it is exceeded, 0: never
	set moment        // the socket's deadline, 0: none
}

// begin makes the limit d from now on, 0: none, and reports whether the socket needs
// another deadline.
func (l *limit) begin(d time.Duration) bool {
	if d <= 0 {
		return l.beginAt(0, 0)
	}
	return l.beginAt(d, now())
}

// beginAt is begin for who knows what time it is.
func (l *limit) beginAt(d time.Duration, at moment) bool {
	l.of = d
	if d <= 0 {
		l.due = 0
		return l.set != 0
	}
	l.due = at + moment(d)
	return l.set == 0 || l.set > l.due || l.set-at < moment(d/2)
}

// early reports whether a deadline came before the limit.
func (l *limit) early() bool { return l.due == 0 || now() < l.due }

// deadline takes note that the socket gets the deadline that is due, which it returns.
func (l *limit) deadline() time.Time {
	if l.set = l.due; l.set == 0 {
		return time.Time{}
	}
	return l.set.time()
}

// limitRead limits reading to d from now, 0: no limit.
func (k *conn) limitRead(d time.Duration) {
	if k.reading.begin(d) {
		k.setRead()
	}
}

func (k *conn) setRead() {
	_ = k.SetReadDeadline(k.reading.deadline())
	k.recheck()
}

// limitWrite is limitRead for writing.
func (k *conn) limitWrite(d time.Duration) {
	if k.writing.begin(d) {
		_ = k.SetWriteDeadline(k.writing.deadline())
		k.recheck()
	}
}

// longAgo is a deadline that has passed.
var longAgo = time.Unix(1, 0)

// cancel makes whatever the connection waits for fail at once.
func (k *conn) cancel() {
	k.cancelled.Store(true)
	_ = k.SetDeadline(longAgo)
}

// recheck restores the deadline of a cancellation that came between.
func (k *conn) recheck() {
	if k.cancelled.Load() {
		_ = k.SetDeadline(longAgo)
	}
}

// look reports what waits on the connection. It does not block.
func (k *conn) look() socket.State {
	seen, err := k.probe.look()
	if err != nil && timedOut(err) && !k.cancelled.Load() {
		// Looking fails once a deadline has passed: here one of an earlier wait.
		k.reading.due = 0
		k.setRead()
		seen, _ = k.probe.look()
	}
	return seen
}
