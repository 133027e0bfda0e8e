package plugin

import "encoding/json"

// Fill judges a configuration as Check does and returns it with the defaults of its schema
// filled in, as the plugin sees it.
func (r *Registry) Fill(name string, conf []byte) (json.RawMessage, error) {
	e := r.byName[name]
	if e == nil {
		return nil, &UnknownError{Plugin: name}
	}
	filled, _, err := e.judge(e.schema, conf, true)
	if err != nil {
		return nil, err
	}
	return filled, r.Check(Source{Name: name, Conf: conf})
}
