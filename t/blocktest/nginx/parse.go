package nginx

import (
	"fmt"
	"strings"
)

// A Directive is one statement of a configuration.
type Directive struct {
	Name  string
	Args  []string
	Block []*Directive // of `name args { … }`; nil when Braces is false
	Lua   string       // the text between the braces of a *_by_lua_block
	Line  int          // of the name, from 1

	Braces bool // it ended with a block, and not with a semicolon
}

// A SyntaxError is a configuration that nginx would refuse to read.
type SyntaxError struct {
	Line int
	What string
}

func (e *SyntaxError) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.What) }

// maxDepth bounds the nesting of blocks.
const maxDepth = 64

// luaBlock is how the names of directives end whose block is Lua.
const luaBlock = "_by_lua_block"

// Parse reads a configuration. Its errors are *SyntaxError.
func Parse(src string) ([]*Directive, error) {
	p := &parser{lexer: lexer{src: src, line: 1}}
	return p.block(0)
}

type parser struct{ lexer }

// block reads statements up to the closing brace, or to the end of the text at depth 0.
func (p *parser) block(depth int) ([]*Directive, error) {
	if depth > maxDepth {
		return nil, p.errorf("blocks are nested deeper than %d", maxDepth)
	}
	list := []*Directive{}
	for {
		t, err := p.next()
		if err != nil {
			return nil, err
		}
		switch t.kind {
		case tokenEnd:
			if depth > 0 {
				return nil, p.errorf(`unexpected end of file, expecting "}"`)
			}
			return list, nil
		case tokenClose:
			if depth == 0 {
				return nil, p.errorf(`unexpected "}"`)
			}
			return list, nil
		case tokenSemicolon, tokenOpen:
			return nil, p.errorf("unexpected %q", t.text)
		}
		d, err := p.statement(t, depth)
		if err != nil {
			return nil, err
		}
		list = append(list, d)
	}
}

// statement reads what follows a directive's name.
func (p *parser) statement(name token, depth int) (*Directive, error) {
	d := &Directive{Name: name.text, Line: name.line}
	for {
		t, err := p.next()
		if err != nil {
			return nil, err
		}
		switch t.kind {
		case tokenWord:
			d.Args = append(d.Args, t.text)
		case tokenSemicolon:
			return d, nil
		case tokenOpen:
			d.Braces = true
			if strings.HasSuffix(d.Name, luaBlock) {
				d.Lua, err = p.lua()
			} else {
				d.Block, err = p.block(depth + 1)
			}
			return d, err
		case tokenClose:
			return nil, p.errorf(`unexpected "}"`)
		case tokenEnd:
			return nil, p.errorf(`unexpected end of file, expecting ";" or "}"`)
		}
	}
}
