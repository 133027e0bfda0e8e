package stage

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rs/zerolog"
	"go.yaml.in/yaml/v3"

	"github.com/gosix/gosix/pkg/store"
	"github.com/gosix/gosix/pkg/store/embedetcd"
	"github.com/gosix/gosix/t/blocktest"
)

// Place is where the upstream of a suite listens: on a port of its own, counted in the order
// in which the suite names them, so that hash rings stay the same.
func (s *Stage) Place(upstream string) string {
	i := slices.Index(s.places, upstream)
	if i < 0 {
		i = len(s.places)
		s.places = append(s.places, upstream)
	}
	return fmt.Sprintf("127.0.0.1:%d", firstUpstream+i)
}

// Direct does what a block's script says.
func (s *Stage) Direct(ctx context.Context, script *blocktest.Script) error {
	for _, u := range s.upstreams {
		u.forget()
	}
	for _, u := range script.Upstreams {
		if err := s.upstream(u); err != nil {
			return err
		}
	}
	for i, c := range script.Calls {
		if err := s.call(ctx, c); err != nil {
			return fmt.Errorf("admin: call %d, %s %s: %w", i+1, c.Method, c.Target, err)
		}
	}
	var ops []store.Op
	for _, w := range script.Writes {
		ops = append(ops, store.Op{Key: w.Key, Value: []byte(w.Value), Delete: w.Delete})
	}
	if len(ops) > 0 {
		if _, err := s.store.Commit(ctx, nil, ops); err != nil {
			return fmt.Errorf("etcd: %w", err)
		}
	}
	return s.settle(ctx)
}

// upstream makes an upstream answer as it is told to from now on.
func (s *Stage) upstream(u blocktest.Upstream) error {
	if old := s.upstreams[u.Name]; old != nil {
		old.close()
	}
	up, err := serveUpstream(s.Place(u.Name), u)
	if err != nil {
		return fmt.Errorf("upstream %s: %w", u.Name, err)
	}
	if s.upstreams == nil {
		s.upstreams = map[string]*upstreamServer{}
	}
	s.upstreams[u.Name] = up
	return nil
}

// call makes a call of the Admin API, which has to succeed.
func (s *Stage) call(ctx context.Context, c blocktest.Call) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, c.Method, "http://"+adminAddr+c.Target, strings.NewReader(c.Body))
	if err != nil {
		return err
	}
	req.Header.Set("X-API-KEY", s.adminKey())
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if res.StatusCode >= http.StatusMultipleChoices {
		return fmt.Errorf("%s: %s", res.Status, answer)
	}
	return nil
}

// adminKey is the first key that gosix is configured with.
func (s *Stage) adminKey() string {
	var conf struct {
		Deployment struct {
			Admin struct {
				Keys []struct{ Key string } `yaml:"admin_key"`
			}
		}
	}
	if yaml.Unmarshal([]byte(s.gosix.conf), &conf) != nil || len(conf.Deployment.Admin.Keys) == 0 {
		return ""
	}
	return conf.Deployment.Admin.Keys[0].Key
}

// Break makes a fault happen.
func (s *Stage) Break(ctx context.Context, f blocktest.Fault) error {
	switch f.What {
	case "etcd":
		s.setEtcdAway(true)
		s.etcd.Close()
		s.etcd = nil
	case "gosix":
		conf, trusts := s.gosix.conf, s.gosix.trusts
		s.gosix.kill()
		s.gosix = nil
		if err := s.run(ctx, conf, trusts, true); err != nil {
			return err
		}
		return s.settle(ctx)
	case "upstream":
		if u := s.upstreams[f.Upstream]; u != nil {
			u.close()
		}
	}
	return nil
}

// openEtcd starts the etcd, on the data of the one that a block before killed if there was
// one.
func (s *Stage) openEtcd() (err error) {
	if s.etcd != nil {
		return nil
	}
	s.etcd, err = embedetcd.Start(embedetcd.Config{Dir: filepath.Join(s.dir, "etcd"), Listen: etcdAddr, Log: zerolog.Nop()})
	s.setEtcdAway(err != nil)
	return err
}

func (s *Stage) setEtcdAway(away bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.etcdAway = away
}

// Received is what an upstream got since the block began.
func (s *Stage) Received(upstream string) []blocktest.Received {
	if u := s.upstreams[upstream]; u != nil {
		return u.received()
	}
	return nil
}

func (s *Stage) closeUpstreams() {
	for _, u := range s.upstreams {
		u.close()
	}
}
