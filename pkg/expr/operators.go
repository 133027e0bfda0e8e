package expr

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/gosix/gosix/pkg/variable"
)

// operators are those of spec/03 §5 by their names in lower case: each takes the right
// side and returns the test of the left one. It is never written.
var operators = map[string]func(right variable.Value) (test, error){
	"==":      equal,
	"~=":      unequal,
	">":       ordered(func(l, r float64) bool { return l > r }),
	">=":      ordered(func(l, r float64) bool { return l >= r }),
	"<":       ordered(func(l, r float64) bool { return l < r }),
	"<=":      ordered(func(l, r float64) bool { return l <= r }),
	"~~":      func(right variable.Value) (test, error) { return matches(right, false) },
	"~*":      func(right variable.Value) (test, error) { return matches(right, true) },
	"in":      in,
	"has":     has,
	"ipmatch": ipMatch,
}

// same is equality: a number on the right makes one of the left side.
func same(right variable.Value) func(left variable.Value) bool {
	if !right.IsNumber() {
		return func(left variable.Value) bool { return left.Equal(right) }
	}
	want, _ := right.Number()
	return func(left variable.Value) bool {
		got, ok := left.Number()
		return ok && got == want
	}
}

func equal(right variable.Value) (test, error) {
	is := same(right)
	return func(left variable.Value) (bool, error) { return is(left), nil }, nil
}

func unequal(right variable.Value) (test, error) {
	is := same(right)
	return func(left variable.Value) (bool, error) { return !is(left), nil }, nil
}

func ordered(holds func(l, r float64) bool) func(variable.Value) (test, error) {
	return func(right variable.Value) (test, error) {
		want, numeric := right.Number()
		return func(left variable.Value) (bool, error) {
			got, ok := left.Number()
			return ok && numeric && holds(got, want), nil
		}, nil
	}
}

func in(right variable.Value) (test, error) {
	list := right.List()
	return func(left variable.Value) (bool, error) { return contains(list, left), nil }, nil
}

func has(right variable.Value) (test, error) {
	return func(left variable.Value) (bool, error) { return contains(left.List(), right), nil }, nil
}

func contains(list []variable.Value, v variable.Value) bool {
	for _, e := range list {
		if v.Equal(e) {
			return true
		}
	}
	return false
}

func ipMatch(right variable.Value) (test, error) {
	list := right.List()
	if !right.IsList() {
		list = []variable.Value{right}
	}
	nets := make([]netip.Prefix, len(list))
	for i, e := range list {
		p, err := prefix(e.String())
		if err != nil || !e.IsText() {
			return nil, fmt.Errorf("invalid ip address: %s", e.String())
		}
		nets[i] = p
	}
	return func(left variable.Value) (bool, error) {
		addr, ok := left.Addr()
		if !ok {
			return false, nil
		}
		for _, p := range nets {
			if p.Contains(addr) {
				return true, nil
			}
		}
		return false, nil
	}, nil
}

// prefix reads an address or a network. IPv4 written as IPv6 is IPv4, as it is on the
// left side.
func prefix(s string) (netip.Prefix, error) {
	var p netip.Prefix
	var err error
	if strings.IndexByte(s, '/') >= 0 {
		p, err = netip.ParsePrefix(s)
	} else {
		var a netip.Addr
		a, err = netip.ParseAddr(s)
		p = netip.PrefixFrom(a.WithZone(""), a.BitLen())
	}
	if err != nil {
		return netip.Prefix{}, err
	}
	if a := p.Addr(); a.Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
	}
	return p.Masked(), nil
}
