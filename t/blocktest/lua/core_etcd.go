package lua

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	glua "github.com/yuin/gopher-lua"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// etcdClient connects when a script first asks.
type etcdClient struct{ c *clientv3.Client }

const etcdTimeout = 5 * time.Second

func (e *etcdClient) close() {
	if e.c != nil {
		_ = e.c.Close()
	}
}

var errNoEtcd = errors.New("no etcd is configured")

// etcdDo runs one call against etcd, with the baton free.
func (rt *Runtime) etcdDo(L *glua.LState, f func(ctx context.Context, c *clientv3.Client) error) error {
	if rt.opts.Etcd == "" {
		whiteBox(L, "core.etcd")
		return errNoEtcd
	}
	if rt.etcd.c == nil {
		c, err := clientv3.New(clientv3.Config{Endpoints: []string{rt.opts.Etcd}, DialTimeout: etcdTimeout, Logger: zap.NewNop()})
		if err != nil {
			return err
		}
		rt.etcd.c = c
	}
	var err error
	rt.wait(L, func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, etcdTimeout)
		defer cancel()
		err = f(ctx, rt.etcd.c)
	})
	return err
}

func (rt *Runtime) coreEtcd() *glua.LTable {
	return rt.inside("core.etcd", module(rt.state, funcs{
		"get": func(L *glua.LState) int {
			return rt.etcdGet(L, rt.opts.Prefix+checkText(L, 1), glua.LVAsBool(L.Get(2)))
		},
		"set": func(L *glua.LState) int {
			return rt.etcdSet(L, checkText(L, 1), L.Get(2), L.Get(3))
		},
		"push": func(L *glua.LState) int {
			key, value := checkText(L, 1), L.CheckTable(2)
			gen, err := rt.etcdPut(L, "/gen_id", num(1), glua.LNil)
			if err != nil {
				return fail(L, err.Error())
			}
			id := fmt.Sprintf("%020d", gen.Header.Revision)
			value.RawSetString("id", str(id))
			return rt.etcdSet(L, key+"/"+id, value, L.Get(3))
		},
		"delete": func(L *glua.LState) int { return rt.etcdDelete(L, checkText(L, 1)) },
		"rmdir":  func(L *glua.LState) int { return rt.etcdDelete(L, checkText(L, 1), clientv3.WithPrefix()) },
		"server_version": func(L *glua.LState) int {
			var res *clientv3.StatusResponse
			err := rt.etcdDo(L, func(ctx context.Context, c *clientv3.Client) (err error) {
				res, err = c.Status(ctx, rt.opts.Etcd)
				return err
			})
			if err != nil {
				return fail(L, err.Error())
			}
			body := L.NewTable()
			body.RawSetString("etcdserver", str(res.Version))
			body.RawSetString("etcdcluster", str(res.Version[:strings.LastIndexByte(res.Version, '.')]+".0"))
			return ret(L, etcdAnswer(L, 200, body, 0))
		},
	}))
}

// etcdAnswer is the shape that all calls return.
func etcdAnswer(L *glua.LState, status int, body *glua.LTable, revision int64) *glua.LTable {
	headers := L.NewTable()
	if revision > 0 {
		headers.RawSetString("X-Etcd-Index", str(fmt.Sprint(revision)))
		header := L.NewTable()
		header.RawSetString("revision", str(fmt.Sprint(revision)))
		body.RawSetString("header", header)
	}
	res := L.NewTable()
	res.RawSetString("status", num(status))
	res.RawSetString("headers", headers)
	res.RawSetString("body", body)
	if status == 404 {
		body.RawSetString("message", str("Key not found"))
		res.RawSetString("reason", str("Not found"))
	}
	return res
}

func (rt *Runtime) etcdGet(L *glua.LState, key string, dir bool) int {
	var opts []clientv3.OpOption
	if dir {
		opts = append(opts, clientv3.WithPrefix())
	}
	var res *clientv3.GetResponse
	err := rt.etcdDo(L, func(ctx context.Context, c *clientv3.Client) (err error) {
		res, err = c.Get(ctx, key, opts...)
		return err
	})
	if err != nil {
		return fail(L, err.Error())
	}
	body := L.NewTable()
	if len(res.Kvs) == 0 {
		return ret(L, etcdAnswer(L, 404, body, res.Header.Revision))
	}
	nodes := L.NewTable()
	nodes.Metatable = rt.safeJSON.arrayMT
	for _, kv := range res.Kvs {
		node := L.NewTable()
		node.RawSetString("key", str(string(kv.Key)))
		value, err := rt.safeJSON.decode(string(kv.Value))
		if err != nil {
			value = str(string(kv.Value))
		}
		node.RawSetString("value", value)
		node.RawSetString("createdIndex", num(kv.CreateRevision))
		node.RawSetString("modifiedIndex", num(kv.ModRevision))
		nodes.Append(node)
	}
	if dir {
		body.RawSetString("list", nodes)
		body.RawSetString("total", num(nodes.Len()))
	} else {
		body.RawSetString("node", nodes.RawGetInt(1))
	}
	return ret(L, etcdAnswer(L, 200, body, res.Header.Revision))
}

func (rt *Runtime) etcdPut(L *glua.LState, key string, value, ttl glua.LValue) (res *clientv3.PutResponse, err error) {
	src, err := rt.safeJSON.encode(value)
	if err != nil {
		return nil, err
	}
	seconds, _ := number(ttl)
	err = rt.etcdDo(L, func(ctx context.Context, c *clientv3.Client) (err error) {
		opts := []clientv3.OpOption{clientv3.WithPrevKV()}
		if seconds > 0 {
			lease, err := c.Grant(ctx, int64(seconds))
			if err != nil {
				return err
			}
			opts = append(opts, clientv3.WithLease(lease.ID))
		}
		res, err = c.Put(ctx, rt.opts.Prefix+key, src, opts...)
		return err
	})
	return res, err
}

func (rt *Runtime) etcdSet(L *glua.LState, key string, value, ttl glua.LValue) int {
	res, err := rt.etcdPut(L, key, value, ttl)
	if err != nil {
		return fail(L, err.Error())
	}
	node := L.NewTable()
	node.RawSetString("key", str(rt.opts.Prefix+key))
	node.RawSetString("value", value)
	body := L.NewTable()
	body.RawSetString("node", node)
	status := 201
	if res.PrevKv != nil {
		status = 200
	}
	return ret(L, etcdAnswer(L, status, body, res.Header.Revision))
}

func (rt *Runtime) etcdDelete(L *glua.LState, key string, opts ...clientv3.OpOption) int {
	var res *clientv3.DeleteResponse
	err := rt.etcdDo(L, func(ctx context.Context, c *clientv3.Client) (err error) {
		res, err = c.Delete(ctx, rt.opts.Prefix+key, opts...)
		return err
	})
	if err != nil {
		return fail(L, err.Error())
	}
	body := L.NewTable()
	status := 200
	if res.Deleted == 0 {
		status = 404
	} else {
		body.RawSetString("deleted", str(fmt.Sprint(res.Deleted)))
		body.RawSetString("key", str(rt.opts.Prefix+key))
		body.RawSetString("node", L.NewTable())
	}
	return ret(L, etcdAnswer(L, status, body, res.Header.Revision))
}
