package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// Thief stands before an etcd, passes everything on, and takes single events out of watches, as
// etcds have done without a word.
type Thief struct {
	Listen string
	to     *grpc.ClientConn

	mu     sync.Mutex
	prey   string // what keys of events that are taken begin with; "" none
	stolen int
}

// frame passes messages on as they are.
type frame struct{}

func (frame) Name() string { return "proto" }

func (frame) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(*v.(*[]byte))}, nil
}

func (frame) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}

var _ encoding.CodecV2 = frame{}

// NewThief starts one, which ends with the scenario.
func (r *Run) NewThief(to string) (*Thief, error) {
	const most = 64 << 20
	conn, err := grpc.NewClient(to, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(frame{}), grpc.MaxCallRecvMsgSize(most), grpc.MaxCallSendMsgSize(most)))
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	t := &Thief{Listen: l.Addr().String(), to: conn}
	s := grpc.NewServer(grpc.ForceServerCodecV2(frame{}), grpc.UnknownServiceHandler(t.pass), grpc.MaxRecvMsgSize(most), grpc.MaxSendMsgSize(most))
	go func() { _ = s.Serve(l) }()
	r.Later(func() {
		s.Stop()
		_ = conn.Close()
	})
	return t, nil
}

// Steal takes every event of a key that begins so, from now on.
func (t *Thief) Steal(prefix string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.prey = prefix
}

// Stolen counts the events that were taken.
func (t *Thief) Stolen() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.stolen
}

// pass is a call of any kind.
func (t *Thief) pass(_ any, in grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(in)
	ctx, cancel := context.WithCancel(in.Context())
	defer cancel()
	if sent, ok := metadata.FromIncomingContext(ctx); ok {
		ctx = metadata.NewOutgoingContext(ctx, sent.Copy())
	}
	out, err := t.to.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, method)
	if err != nil {
		return err
	}
	go func() {
		for {
			var m []byte
			if err := in.RecvMsg(&m); err != nil {
				if err == io.EOF {
					_ = out.CloseSend()
				}
				return // the end of the call ends the other direction
			}
			if out.SendMsg(&m) != nil {
				return
			}
		}
	}()
	head, err := out.Header()
	if err != nil {
		return err
	}
	if err := in.SendHeader(head); err != nil {
		return err
	}
	for {
		var m []byte
		err := out.RecvMsg(&m)
		if err != nil {
			in.SetTrailer(out.Trailer())
			if err == io.EOF {
				return nil
			}
			return err
		}
		if method == "/etcdserverpb.Watch/Watch" {
			if m, err = t.take(m); err != nil {
				return status.Error(codes.Internal, err.Error())
			}
			if m == nil {
				continue
			}
		}
		if err := in.SendMsg(&m); err != nil {
			return err
		}
	}
}

// take returns an answer without what is stolen of it; nil for none at all, since one without
// events would say that everything up to its revision has come.
func (t *Thief) take(m []byte) ([]byte, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.prey == "" {
		return m, nil
	}
	var res pb.WatchResponse
	if err := proto.Unmarshal(m, &res); err != nil {
		return nil, err
	}
	before := len(res.Events)
	res.Events = slices.DeleteFunc(res.Events, func(e *mvccpb.Event) bool { return strings.HasPrefix(string(e.Kv.Key), t.prey) })
	taken := before - len(res.Events)
	if t.stolen += taken; taken == 0 {
		return m, nil
	}
	if len(res.Events) == 0 {
		return nil, nil
	}
	return proto.Marshal(&res)
}

// lostEvents is the promise that a node finds out for itself what its watch did not tell it.
func lostEvents(ctx context.Context, r *Run) error {
	w, err := r.NewWorld(ctx, Shape{Etcds: 1, Gateways: 3, Admins: 1, Lossy: true})
	if err != nil {
		return err
	}
	for i := range 50 {
		if err := w.raw(ctx, fmt.Sprintf("/routes/s%d", i), w.route(fmt.Sprintf("/s%d", i), "before")); err != nil {
			return err
		}
	}
	if _, err := w.Agree(ctx, settling); err != nil {
		return err
	}
	// One is new, one changes, one goes; what comes after them arrives.
	w.Thief.Steal(prefix + "/routes/s1")
	if err := w.raw(ctx, "/routes/s1-new", w.route("/s1-new", "")); err != nil {
		return err
	}
	if err := w.raw(ctx, "/routes/s10", w.route("/s10-moved", "")); err != nil {
		return err
	}
	if _, err := w.Etcd.KV.Delete(ctx, prefix+"/routes/s11"); err != nil {
		return err
	}
	if _, err := within(ctx, settling, "three events are stolen", func() bool { return w.Thief.Stolen() == 3 }); err != nil {
		return err
	}
	w.Thief.Steal("")
	lost := time.Now()
	if err := w.raw(ctx, "/routes/after", w.route("/after", "")); err != nil {
		return err
	}
	if _, err := w.LiveEverywhere(ctx, "/after", settling); err != nil {
		return err
	}
	victim := w.Gateways[0]
	var wrong []string
	for _, g := range w.Gateways {
		if blind := !w.Probe(g, "/s1-new", "x") && !w.Probe(g, "/s10-moved", "x") && w.Probe(g, "/s11", "x"); blind != (g == victim) {
			wrong = append(wrong, fmt.Sprintf("%s: %v", g.Name, blind))
		}
	}
	r.None("3 events are lost on the way: nodes that are not as that makes them", wrong, len(w.Gateways))
	took, err := within(ctx, settling, "the table of nodes shows a digest that differs", func() bool {
		list, _ := w.nodes(ctx)
		return slices.ContainsFunc(list, func(n listedNode) bool { return n.DigestDiffers })
	})
	if err != nil {
		return err
	}
	r.AtMost("… that a node differs is told by GET /apisix/admin/nodes in", took, 3*time.Second)
	// Until it is repaired, the validators would find what they are to find.
	before := slices.DeleteFunc(w.Watch.Stop(), func(s Sample) bool { return s.Node == victim.Name && s.At.After(lost.Add(-5*time.Second)) })
	if r.Long {
		if _, err := within(ctx, 11*time.Minute, "it is repaired", func() bool {
			_ = pause(ctx, 200*time.Millisecond)
			return w.Probe(victim, "/s1-new", "x") && w.Probe(victim, "/s10-moved", "x") && !w.Probe(victim, "/s11", "x")
		}); err != nil {
			return err
		}
		// A comparison comes 5 to 10 minutes after the one before.
		r.AtMost("… the node finds what it lost by comparing, and reads everything anew, after", time.Since(lost), 10*time.Minute+10*time.Second)
		got := causes(victim.Process.Log.Since(lost, "configuration was read anew"))
		r.Check("… because", strings.Join(got, ", "), "anti-entropy, once", slices.Equal(got, []string{"anti-entropy"}))
		w.AgreeLine(ctx, "same digest everywhere afterwards in", time.Now(), 2*time.Second)
		w.Watch = newObserver(50*time.Millisecond, w.Gateways...)
		r.Later(func() { w.Watch.Stop() })
		w.Watch.take(before)
		if err := pause(ctx, 2*time.Second); err != nil {
			return err
		}
	} else {
		r.Note("… it compares every 5 to 10 minutes, for which only a long run waits; how, shows", "TestALostEventIsFoundByComparing in pkg/store/etcdstore")
		w.Watch.samples = before
	}
	w.Finish(ctx)
	return nil
}
