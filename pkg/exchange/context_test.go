package exchange_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/gosix/gosix/pkg/exchange"
)

type values map[any]any

func (v values) Value(key any) any { return v[key] }

func TestAContextEndsOnce(t *testing.T) {
	c := exchange.NewContext(values{"a": 1})
	if c.Err() != nil || c.Value("a") != 1 || c.Value("b") != nil || !exchange.Ends(c) {
		t.Errorf("a new one: %v, %v, %v", c.Err(), c.Value("a"), c.Value("b"))
	}
	child, cancel := context.WithTimeout(c, time.Hour)
	defer cancel()
	called := make(chan string, 3)
	context.AfterFunc(c, func() { called <- "first" })
	stop := context.AfterFunc(c, func() { called <- "stopped" })
	context.AfterFunc(c, func() { called <- "third" })
	if !stop() || stop() {
		t.Error("stop does not say what it did")
	}
	c.Cancel(exchange.ErrEnding)
	c.Cancel(context.Canceled)
	<-c.Done()
	<-child.Done()
	got := map[string]bool{<-called: true, <-called: true}
	if !got["first"] || !got["third"] {
		t.Errorf("called: %v", got)
	}
	for name, ctx := range map[string]context.Context{"it": c, "one that was made of it": child} {
		if !errors.Is(ctx.Err(), context.Canceled) || !exchange.Ending(ctx) {
			t.Errorf("%s: %v, because of %v", name, ctx.Err(), context.Cause(ctx))
		}
	}
	context.AfterFunc(c, func() { called <- "late" })
	if got := <-called; got != "late" {
		t.Errorf("called: %s", got)
	}
	late := exchange.NewContext(nil)
	late.Cancel(context.Canceled)
	<-late.Done()
	if exchange.Ending(late) || late.Value("a") != nil {
		t.Error("a client that has left is not the end of the process")
	}
	if exchange.Ends(context.Background()) || !exchange.Ends(child) {
		t.Error("Ends does not say what Done does")
	}
}

func TestNowIsBehindStart(t *testing.T) {
	x := new(exchange.Exchange)
	x.Reset(context.Background(), nil)
	for range 3 {
		before, now, after := time.Now(), x.Now(), time.Now()
		if now.Before(before) || now.After(after) || now.Sub(x.Start) < 0 {
			t.Errorf("got %v, want one between %v and %v", now, before, after)
		}
	}
}

func TestContextsThatLieTogetherEndEachByItself(t *testing.T) {
	var made exchange.Contexts
	list := make([]*exchange.Context, 10)
	for i := range list {
		list[i] = made.New(values{"n": i})
	}
	list[3].Cancel(context.Canceled)
	for i, ctx := range list {
		if n, _ := ctx.Value("n").(int); n != i || (ctx.Err() != nil) != (i == 3) {
			t.Errorf("context %d: got %d, %v", i, n, ctx.Err())
		}
	}
}
