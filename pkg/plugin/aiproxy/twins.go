package aiproxy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/gosix/gosix/pkg/drivers"
	"github.com/gosix/gosix/pkg/jsonedit"
)

// names are members of requests that something here decides by or sets. A client's member
// that differs from one of them by case alone is read as that one by some providers, among
// them all that decode into structures of Go, so that they would read another request than
// the one that was judged (spec/00 7).
type names struct {
	list  []string
	lower bool // none has a letter above 'z' or a capital
}

// decisive are the names that count with every instance.
var decisive = []string{"model", "messages", "stream", "stream_options", "input", "prompt", "system", "instructions", "tools"}

// limiting are what a limit of the answer is written into, or its place, by protocol.
var limiting = []string{"max_tokens", "max_completion_tokens", "max_output_tokens", "inferenceConfig", "generationConfig"}

// namesOf are the decisive names and what the instances set.
func namesOf(instances []*drivers.Instance) names {
	n := names{list: slices.Clone(decisive), lower: true}
	add := func(name string) {
		if !slices.Contains(n.list, name) {
			n.list = append(n.list, name)
			n.lower = n.lower && plain(name)
		}
	}
	for _, i := range instances {
		for _, o := range i.Options {
			add(o.Name)
		}
		if i.MaxTokens != nil {
			for _, name := range limiting {
				add(name)
			}
		}
		for _, patch := range i.Bodies {
			// It was checked when the instance was compiled.
			_ = jsonedit.Members(patch, func(name string, _ []byte, _ jsonedit.Kind) error { add(name); return nil })
		}
	}
	return n
}

// plain reports whether a name is no other name's twin unless that one has capitals.
func plain(name string) bool {
	for i := range len(name) {
		if c := name[i]; 'A' <= c && c <= 'Z' || c >= 0x80 {
			return false
		}
	}
	return true
}

// twin says which member of a request is the twin of a name, if one is.
func (n *names) twin(doc *jsonedit.Doc) error {
	members := doc.Members()
	for i := range members {
		m := members[i].Name
		if n.lower && plain(m) || slices.Contains(n.list, m) {
			continue
		}
		for _, name := range n.list {
			if strings.EqualFold(m, name) {
				return fmt.Errorf("member %q is %q in other letters", m, name)
			}
		}
	}
	return nil
}
