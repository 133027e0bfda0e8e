package balancer

// priority asks groups of targets in turn, each with a picker of its own: a lower group
// only when the picker of a higher one has nobody left (spec/05 §4.5). A group that is
// down as a whole is passed over while another is not.
type priority struct {
	groups []group
	pool   Set
}

// group is the targets of one priority.
type group struct {
	level  int
	pool   Set
	picker Picker
}

func newPriority(groups [][]member, build func([]member, Picker) Picker, prev Picker) *priority {
	p := &priority{groups: make([]group, len(groups))}
	for i, members := range groups {
		level := members[0].priority
		p.groups[i] = group{level, poolOf(members), build(members, groupOf(prev, level))}
		for _, m := range members {
			p.pool.Add(m.index)
		}
	}
	return p
}

// groupOf returns what prev picked from targets of that priority with. A picker that is no
// priority had one group, whose counts are those of its targets whatever their level.
func groupOf(prev Picker, level int) Picker {
	p, ok := prev.(*priority)
	if !ok {
		return prev
	}
	for i := range p.groups {
		if p.groups[i].level == level {
			return p.groups[i].picker
		}
	}
	return nil
}

// groupsOf returns the pickers that prev is made of: one for each priority, or itself.
func groupsOf(prev Picker) []Picker {
	p, ok := prev.(*priority)
	if !ok {
		return []Picker{prev}
	}
	list := make([]Picker, len(p.groups))
	for i := range p.groups {
		list[i] = p.groups[i].picker
	}
	return list
}

func (p *priority) Pick(a *Attempt) (int, error) {
	allDown := a.Down.covers(&p.pool)
	for i := range p.groups {
		g := &p.groups[i]
		if !allDown && a.Down.covers(&g.pool) {
			continue
		}
		if t, err := g.picker.Pick(a); err == nil {
			return t, nil
		}
	}
	return 0, ErrExhausted
}

func (p *priority) Done(i int, o Outcome) {
	for n := range p.groups {
		if g := &p.groups[n]; g.pool.Has(i) {
			g.picker.Done(i, o)
			return
		}
	}
}
