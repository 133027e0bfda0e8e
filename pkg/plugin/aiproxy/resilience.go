package aiproxy

import (
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/gosix/gosix/pkg/plugin"
)

// resilience is what can be configured beyond the reference. Its zero value is none of it.
type resilience struct {
	FirstToken int64 `json:"first_token_timeout_ms"`
	Idle       int64 `json:"idle_timeout_ms"`
	Deadline   int64 `json:"deadline_ms"`

	Backoff *struct {
		Base int64 `json:"base_ms"`
		Max  int64 `json:"max_ms"`
	} `json:"backoff"`
	Cooldown *struct {
		Default int64 `json:"default_ms"`
		Max     int64 `json:"max_ms"`
	} `json:"cooldown"`
	Ejection *struct {
		Failures   int32 `json:"failures"`
		Base       int64 `json:"base_ms"`
		Max        int64 `json:"max_ms"`
		MaxPercent int   `json:"max_percent"`
	} `json:"ejection"`
	Breaker *struct {
		Percent  int   `json:"failure_percent"`
		MinCalls int   `json:"min_calls"`
		Window   int64 `json:"window_ms"`
		Open     int64 `json:"open_ms"`
	} `json:"breaker"`
	Budget *struct {
		Percent int64 `json:"percent"`
		Reserve int64 `json:"reserve"`
	} `json:"retry_budget"`
	Hedge *struct {
		After      after `json:"after"`
		MaxPercent int64 `json:"max_percent"`
	} `json:"hedge"`
}

// after is when a second call is made: at a percentile of the times that first tokens took,
// or after a fixed time. One of the two is 0.
type after struct {
	percentile int
	delay      time.Duration
}

// UnmarshalJSON reads "p95" or a number of milliseconds; the schema has judged which.
func (a *after) UnmarshalJSON(p []byte) error {
	var n int64
	if plugin.Decode(p, &n) == nil {
		a.delay = ms(n)
		return nil
	}
	var text string
	if err := plugin.Decode(p, &text); err != nil {
		return err
	}
	percentile, err := strconv.Atoi(strings.TrimPrefix(text, "p"))
	a.percentile = percentile
	return err
}

// guards are the settings of resilience as an attempt needs them; nil or 0: off.
type guards struct {
	firstToken, deadline time.Duration
	backoff              *backoff
	cooldown             *cooldown
	ejection             *ejection
	breaker              *breakerRule
	budget               *allowanceRule
	hedge                *hedgeRule
}

type backoff struct{ base, most time.Duration }

// pause is how long to wait before the next attempt, the first of which is 0: anything up
// to a bound that doubles each time, so that clients which failed together do not come
// back together.
func (b *backoff) pause(tries int) time.Duration {
	bound := b.most
	if tries < 32 {
		bound = min(bound, b.base<<tries)
	}
	return rand.N(bound + 1)
}

type cooldown struct{ otherwise, most time.Duration }

type ejection struct {
	failures   int32
	base, most time.Duration
	maxPercent int
}

func (r *resilience) compile() guards {
	g := guards{firstToken: ms(r.FirstToken), deadline: ms(r.Deadline)}
	if b := r.Backoff; b != nil {
		g.backoff = &backoff{ms(b.Base), max(ms(b.Base), ms(b.Max))}
	}
	if c := r.Cooldown; c != nil {
		g.cooldown = &cooldown{min(ms(c.Default), ms(c.Max)), ms(c.Max)}
	}
	if e := r.Ejection; e != nil {
		g.ejection = &ejection{e.Failures, ms(e.Base), max(ms(e.Base), ms(e.Max)), e.MaxPercent}
	}
	if b := r.Breaker; b != nil {
		g.breaker = &breakerRule{b.Percent, b.MinCalls, ms(b.Window), ms(b.Open)}
	}
	if b := r.Budget; b != nil {
		g.budget = &allowanceRule{percent: b.Percent, start: b.Reserve, most: max(1, b.Reserve)}
	}
	if h := r.Hedge; h != nil {
		g.hedge = &hedgeRule{h.After, allowanceRule{percent: h.MaxPercent, most: 10}}
	}
	return g
}

// conditional reports whether what happened to an instance decides who is asked next.
func (g *guards) conditional() bool {
	return g.cooldown != nil || g.ejection != nil || g.breaker != nil
}
