package main

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/bits"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"github.com/gosix/gosix/internal/porttest"
)

// Member is one etcd.
type Member struct {
	Name    string
	Client  string // address for clients, host:port
	peer    string
	dir     string
	Process *Process
}

// Endpoint is the address as settings have it.
func (m *Member) Endpoint() string { return "http://" + m.Client }

// Cluster is a number of etcds.
type Cluster struct {
	Members []*Member
	KV      *clientv3.Client // of the lab, over all members

	run     *Run
	program string
	token   string
	extra   string // a further address to listen on, without a port; "" none
	state   string // of the initial cluster
}

// oldEtcd is Debian's etcd 3.4, whose watches have known faults.
func (l *Lab) oldEtcd() (string, error) {
	for _, path := range []string{filepath.Join(l.Work, "debian/usr/bin/etcd"), "/usr/bin/etcd"} {
		out, err := exec.Command(path, "--version").Output()
		if err == nil && strings.Contains(string(out), "etcd Version: 3.4.") {
			return path, nil
		}
	}
	return "", notRun("Debian's etcd-server 3.4 is not there: make lab-debian")
}

// NewCluster starts n etcds and waits until they take writes.
func (r *Run) NewCluster(ctx context.Context, n int, program, extra string) (*Cluster, error) {
	c := &Cluster{run: r, program: program, token: fmt.Sprintf("lab-%d", r.Unit.Seed), extra: extra, state: "new"}
	var endpoints []string
	for i := range n {
		client, err := porttest.Free("127.0.0.1")
		if err != nil {
			return nil, err
		}
		peer, err := porttest.Free("127.0.0.1")
		if err != nil {
			return nil, err
		}
		m := &Member{
			Name: fmt.Sprintf("etcd-%d", i), Client: fmt.Sprintf("127.0.0.1:%d", client), peer: fmt.Sprintf("http://127.0.0.1:%d", peer),
			dir: filepath.Join(r.Dir, fmt.Sprintf("etcd-%d", i)),
		}
		c.Members = append(c.Members, m)
		endpoints = append(endpoints, m.Endpoint())
	}
	if err := c.Up(); err != nil {
		return nil, err
	}
	var err error
	c.KV, err = rawClient(endpoints...)
	if err != nil {
		return nil, err
	}
	r.Later(func() { _ = c.KV.Close() })
	return c, c.Accepts(ctx, 60*time.Second)
}

func rawClient(endpoints ...string) (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{
		Endpoints: endpoints, DialTimeout: 2 * time.Second, Logger: zap.NewNop(), MaxCallSendMsgSize: 16 << 20,
		// gRPC would look away for up to two minutes after an outage of ten, and what nodes do in
		// that time would not be measured.
		DialOptions: []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1.2, MaxDelay: 50 * time.Millisecond},
			MinConnectTimeout: 2 * time.Second,
		})},
	})
}

// Up starts every member that does not run.
func (c *Cluster) Up() error {
	for _, m := range c.Members {
		if m.Process == nil || m.Process.Ended() {
			if err := c.start(m); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *Cluster) initial() string {
	var all []string
	for _, m := range c.Members {
		all = append(all, m.Name+"="+m.peer)
	}
	return strings.Join(all, ",")
}

func (c *Cluster) start(m *Member) (err error) {
	listen := m.Endpoint()
	if c.extra != "" {
		listen += ",http://" + c.seenFrom(m)
	}
	argv := []string{
		c.program, "--name", m.Name, "--data-dir", m.dir, "--listen-client-urls", listen, "--advertise-client-urls", m.Endpoint(),
		"--listen-peer-urls", m.peer, "--initial-advertise-peer-urls", m.peer, "--initial-cluster", c.initial(),
		"--initial-cluster-token", c.token, "--initial-cluster-state", c.state, "--log-level", "error", "--logger", "zap",
	}
	m.Process, err = c.run.Start(m.Name, "", false, argv...)
	return err
}

// seenFrom is a member's address from another network.
func (c *Cluster) seenFrom(m *Member) string {
	_, port, _ := net.SplitHostPort(m.Client)
	return net.JoinHostPort(c.extra, port)
}

// Accepts waits until the cluster takes a write, outside of everybody's prefix.
func (c *Cluster) Accepts(ctx context.Context, limit time.Duration) error {
	var last error
	_, err := within(ctx, limit, "etcd accepts writes", func() bool {
		try, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		_, last = c.KV.Put(try, "/lab/accepts", "1")
		return last == nil
	})
	if err != nil {
		return fmt.Errorf("%w: %w", err, last)
	}
	return nil
}

// Signal sends a signal to every member.
func (c *Cluster) Signal(s syscall.Signal) {
	for _, m := range c.Members {
		m.Process.Signal(s)
	}
}

// Kill ends every member without its doing.
func (c *Cluster) Kill() {
	c.Signal(syscall.SIGKILL)
	for _, m := range c.Members {
		<-m.Process.exited
	}
}

// Leader finds the member that leads.
func (c *Cluster) Leader(ctx context.Context) (*Member, error) {
	for range 100 {
		for _, m := range c.Members {
			if m.Process.Ended() {
				continue
			}
			try, cancel := context.WithTimeout(ctx, time.Second)
			res, err := c.KV.Status(try, m.Endpoint())
			cancel()
			if err == nil && res.Leader != 0 && res.Leader == res.Header.MemberId {
				return m, nil
			}
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return nil, err
		}
	}
	return nil, errors.New("no member of etcd leads")
}

// Snapshot saves a backup from a member into a file.
func (c *Cluster) Snapshot(ctx context.Context, file string) error {
	one, err := rawClient(c.Members[0].Endpoint())
	if err != nil {
		return err
	}
	defer func() { _ = one.Close() }()
	from, err := one.Snapshot(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = from.Close() }()
	to, err := os.Create(file)
	if err != nil {
		return err
	}
	_, err = to.ReadFrom(from)
	return errors.Join(err, to.Close())
}

// Restore makes the members' data anew from a backup; they must not run.
func (c *Cluster) Restore(ctx context.Context, file string, extra ...string) error {
	for _, m := range c.Members {
		if err := os.RemoveAll(m.dir); err != nil {
			return err
		}
		argv := append([]string{
			c.run.program("etcdutl"), "snapshot", "restore", file, "--name", m.Name, "--data-dir", m.dir,
			"--initial-cluster", c.initial(), "--initial-cluster-token", c.token, "--initial-advertise-peer-urls", m.peer,
		}, extra...)
		if err := command(ctx, argv...); err != nil {
			return err
		}
	}
	return nil
}

// Wipe removes the members' data; they must not run.
func (c *Cluster) Wipe() error {
	for _, m := range c.Members {
		if err := os.RemoveAll(m.dir); err != nil {
			return err
		}
	}
	return nil
}

// Content is what etcd holds under a prefix at a revision.
type Content struct {
	Revision int64
	Items    map[string]StoredItem
	Digest   string // as a node must report it, counted independently
}

// StoredItem is a value and the revision at which it was put.
type StoredItem struct {
	Value    []byte
	Revision int64
}

// Content reads everything under gosix's prefix.
func (c *Cluster) Content(ctx context.Context) (*Content, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	res, err := c.KV.Get(ctx, prefix+"/", clientv3.WithPrefix())
	if err != nil {
		return nil, err
	}
	content := &Content{Revision: res.Header.Revision, Items: make(map[string]StoredItem, len(res.Kvs))}
	for _, kv := range res.Kvs {
		content.Items[string(kv.Key)] = StoredItem{kv.Value, kv.ModRevision}
	}
	content.Digest = digest(content.Items)
	return content, nil
}

// digest counts what nodes count: the sum of sha256(key, revision, value) modulo 2²⁵⁶.
func digest(items map[string]StoredItem) string {
	var sum [4]uint64 // lowest first
	for key, it := range items {
		h := sha256.New()
		_, _ = h.Write([]byte(key))
		_, _ = h.Write(binary.BigEndian.AppendUint64(nil, uint64(it.Revision)))
		_, _ = h.Write(it.Value)
		one := h.Sum(nil)
		var carry uint64
		for i := range sum {
			sum[i], carry = bits.Add64(sum[i], binary.BigEndian.Uint64(one[24-8*i:]), carry)
		}
	}
	var out []byte
	for i := 3; i >= 0; i-- {
		out = binary.BigEndian.AppendUint64(out, sum[i])
	}
	return hex.EncodeToString(out)
}
