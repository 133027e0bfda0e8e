package perl

import "strings"

// term reads an operand.
func (p *parser) term() node {
	p.space()
	line := p.line
	c := p.peekAt(0)
	switch {
	case c == 0:
		p.syntax("an end where a value should be")
	case c == '$':
		if p.lastIndexFollows() {
			return p.lastIndexTerm()
		}
		return p.scalarTerm()
	case c == '@':
		n := p.arrayTerm()
		if d := p.peekAt(0); d == '[' || d == '{' {
			unsupported(line, "a slice")
		}
		return n
	case c == '%':
		return p.hashTerm()
	case c == '&' && p.peekAt(1) != '&':
		return p.ampersand()
	case isDigit(c) || c == '.' && isDigit(p.peekAt(1)):
		return p.numberTerm()
	case c == '"':
		p.at++
		return p.interpolate(p.delimited('"'), stringText, line)
	case c == '\'':
		p.at++
		return constant{single(p.delimited('\''))}
	case c == '`':
		p.at++
		return &command{p.interpolate(p.delimited('`'), stringText, line), line}
	case c == '/':
		p.at++
		return p.matchTerm('/', line)
	case c == '<' && p.peekAt(1) == '<':
		if n, ok := p.heredoc(); ok {
			return n
		}
	case c == '<':
		return p.readline()
	case c == '(':
		return p.listTerm()
	case c == '[':
		p.at++
		n := &anonArray{p.listUntil("]")}
		return n
	case c == '{':
		p.at++
		return &anonHash{p.listUntil("}"), line}
	}
	if w := p.word(); w != "" {
		return p.wordTerm(w)
	}
	p.syntax("%q where a value should be", p.rest())
	return nil
}

func (p *parser) lastIndexFollows() bool {
	return p.peekAt(1) == '#' && (p.peekAt(2) == '{' || p.peekAt(2) == '$' || isNameStart(p.peekAt(2)))
}

// lastIndexTerm reads $#x, $#$x and $#{ … }: the # stands where an array has its @.
func (p *parser) lastIndexTerm() node {
	p.at++
	return &lastIndex{p.arrayTerm()}
}

func (p *parser) listUntil(end string) node {
	if p.take(end) {
		return &list{}
	}
	n := p.expression()
	p.want(end)
	return n
}

func (p *parser) listTerm() node {
	p.at++
	if p.take(")") {
		return &list{parens: true}
	}
	n := p.expression()
	p.want(")")
	if l, ok := n.(*list); ok && !l.parens {
		l.parens = true
		return l
	}
	return &list{items: []node{n}, parens: true}
}

// variableName reads the name behind a sigil: x, ::x, main::x, Foo::x, or a punctuation.
func (p *parser) variableName() string {
	if strings.HasPrefix(p.src[p.at:], "::") {
		p.at += 2
		name := p.word()
		p.at += len(name)
		return "::" + name
	}
	if c := p.peekAt(0); isDigit(c) {
		from := p.at
		for isDigit(p.peekAt(0)) {
			p.at++
		}
		return p.src[from:p.at]
	} else if isNameStart(c) {
		name := p.word()
		p.at += len(name)
		if rest, ok := strings.CutPrefix(name, "main::"); ok {
			return "::" + rest
		}
		return name
	} else if c != 0 && (strings.IndexByte("_&@!/0|,;$^", c) >= 0 || c == '+' && p.peekAt(1) == '{') {
		p.at++
		return string(c)
	}
	return ""
}

func (p *parser) scalarTerm() node {
	line := p.line
	p.at++
	switch c := p.peekAt(0); {
	case c == '{':
		if name, ok := p.bracedName(); ok {
			return &scalarVar{name: name, line: line}
		}
		unsupported(line, "a reference to a scalar")
	case c == '$' && (isNameStart(p.peekAt(1)) || p.peekAt(1) == '{'):
		// $$x[0] and $$x{k} are elements of what $x refers to.
		inner := p.scalarTerm()
		if d := p.peekAt(0); d == '[' || d == '{' {
			return p.subscript(inner)
		}
		unsupported(line, "a reference to a scalar")
	}
	name := p.variableName()
	if name == "" {
		p.syntax("$%s", p.rest())
	}
	return &scalarVar{name: name, line: line}
}

// bracedName reads {name} at the brace.
func (p *parser) bracedName() (string, bool) {
	end := strings.IndexByte(p.src[p.at:], '}')
	if end < 2 {
		return "", false
	}
	name := strings.TrimSpace(p.src[p.at+1 : p.at+end])
	plain := strings.TrimPrefix(strings.TrimPrefix(name, "main"), "::")
	for i := range len(plain) {
		if !isWordByte(plain[i]) {
			return "", false
		}
	}
	p.at += end + 1
	if strings.Contains(name, "::") {
		name = "::" + plain
	}
	return name, true
}

func (p *parser) arrayTerm() node {
	line := p.line
	p.at++
	switch p.peekAt(0) {
	case '{':
		if name, ok := p.bracedName(); ok {
			return &arrayVar{name: name, line: line}
		}
		p.at++
		n := p.expression()
		p.want("}")
		return &derefArray{n, line}
	case '$':
		return &derefArray{p.scalarTerm(), line}
	}
	name := p.variableName()
	if name == "" {
		p.syntax("@%s", p.rest())
	}
	return &arrayVar{name: name, line: line}
}

func (p *parser) hashTerm() node {
	line := p.line
	p.at++
	switch p.peekAt(0) {
	case '{':
		p.at++
		n := p.expression()
		p.want("}")
		return &derefHash{n, line}
	case '$':
		return &derefHash{p.scalarTerm(), line}
	}
	name := p.variableName()
	if name == "" {
		p.syntax("%%%s", p.rest())
	}
	return &hashVar{name: name, line: line}
}

func (p *parser) ampersand() node {
	line := p.line
	p.at++
	if p.peekAt(0) == '$' {
		code := p.scalarTerm()
		p.space()
		if p.peekAt(0) != '(' {
			unsupported(line, "&$code without arguments")
		}
		return &callCode{code, p.parenthesized(), line}
	}
	name := p.word()
	if name == "" {
		p.syntax("&%s", p.rest())
	}
	p.at += len(name)
	c := &call{name: strings.TrimPrefix(name, "main::"), line: line, amp: true}
	if p.peekAt(0) == '(' {
		c.args = p.parenthesized()
	}
	return c
}

func (p *parser) readline() node {
	line := p.line
	end := strings.IndexByte(p.src[p.at:], '>')
	if end < 3 || p.src[p.at+1] != '$' {
		unsupported(line, "<…>")
	}
	name := p.src[p.at+2 : p.at+end]
	for i := range len(name) {
		if !isWordByte(name[i]) {
			unsupported(line, "a glob")
		}
	}
	p.at += end + 1
	return &readHandle{&scalarVar{name: name, line: line}, line}
}

// patternFlags reads the letters behind a pattern.
func (p *parser) patternFlags(known string) string {
	from := p.at
	for isNameStart(p.peekAt(0)) {
		if strings.IndexByte(known, p.src[p.at]) < 0 {
			unsupported(p.line, "the flag %c of a pattern", p.src[p.at])
		}
		p.at++
	}
	return p.src[from:p.at]
}

func (p *parser) pattern(open byte, line int) node {
	raw := p.delimited(open)
	if open == '\'' {
		return constant{raw}
	}
	return p.interpolate(raw, patternText, line)
}

func (p *parser) matchTerm(open byte, line int) node {
	src := p.pattern(open, line)
	return &match{pattern: src, flags: p.patternFlags("imsxgoc"), line: line}
}

// quoteOpen consumes the delimiter behind q, qq, qr, m, s or qw.
func (p *parser) quoteOpen(word string) byte {
	p.at += len(word)
	if c := p.peekAt(0); c == ' ' || c == '\n' || c == '\t' {
		p.space()
	}
	p.at++
	return p.src[p.at-1]
}

// isQuote says whether a word begins a quoted text here: `q` may be a hash key or a sub.
func (p *parser) isQuote(word string) bool {
	switch word {
	case "q", "qq", "qr", "qw", "m", "s", "tr", "y":
	default:
		return false
	}
	rest := p.src[p.at+len(word):]
	trimmed := strings.TrimLeft(rest, " \t\n")
	if trimmed == "" || trimmed[0] == ';' || trimmed[0] == ',' || trimmed[0] == ')' || strings.HasPrefix(trimmed, "=>") {
		return false
	}
	return len(trimmed) == len(rest) && !isWordByte(trimmed[0]) || len(trimmed) < len(rest) && trimmed[0] != '#' && trimmed[0] != '=' && !isWordByte(trimmed[0])
}

func (p *parser) quoteTerm(word string) node {
	line := p.line
	open := p.quoteOpen(word)
	switch word {
	case "q":
		return constant{single(p.delimited(open))}
	case "qq":
		return p.interpolate(p.delimited(open), stringText, line)
	case "qw":
		l := &list{parens: true}
		for _, w := range strings.Fields(p.delimited(open)) {
			l.items = append(l.items, constant{w})
		}
		return l
	case "qr":
		src := p.pattern(open, line)
		return &compiled{src, p.patternFlags("imsxo"), line}
	case "m":
		return p.matchTerm(open, line)
	case "s":
		return p.substituteTerm(open, line)
	}
	unsupported(line, "%s", word)
	return nil
}

func (p *parser) substituteTerm(open byte, line int) node {
	s := &substitute{pattern: p.pattern(open, line), line: line}
	if closing(open) != open {
		p.space()
		open = p.peekAt(0)
		p.at++
	}
	replaceLine := p.line
	raw := p.delimited(open)
	s.flags = p.patternFlags("imsxgoer")
	switch {
	case strings.Contains(s.flags, "e"):
		q := p.sub(raw, replaceLine)
		s.replace = q.expression()
		if q.space(); q.at < len(q.src) {
			q.syntax("%q behind the replacement", q.rest())
		}
	case open == '\'':
		s.replace = constant{raw}
	default:
		s.replace = p.interpolate(raw, stringText, replaceLine)
	}
	return s
}

// wordTerm reads a term that begins with an identifier.
func (p *parser) wordTerm(w string) node {
	line := p.line
	if p.arrowFollows(w) {
		p.at += len(w)
		return constant{w}
	}
	if p.isQuote(w) {
		return p.quoteTerm(w)
	}
	p.at += len(w)
	switch w {
	case "my", "our", "local", "state":
		return p.declaration(w)
	case "sub":
		p.prototype()
		return &anonSub{p.braces()}
	case "do":
		if p.space(); p.peekAt(0) != '{' {
			unsupported(line, "do FILE")
		}
		return &doBlock{p.braces()}
	case "eval":
		if p.space(); p.peekAt(0) != '{' {
			unsupported(line, "eval TEXT")
		}
		return &evalBlock{p.braces()}
	case "map", "grep", "sort":
		return p.blockFunction(w)
	case "return":
		r := &ret{}
		if p.termFollows() {
			r.value = p.binary(levelList)
		}
		return r
	case "next", "last":
		return &exitLoop{w, line}
	case "__PACKAGE__":
		return constant{"main"}
	case "__FILE__":
		return constant{p.in.opts.Name}
	case "__LINE__":
		return constant{float64(line)}
	case "wantarray", "printf", "say", "require", "goto", "redo", "tie", "bless", "package", "format", "system", "exec", "fork", "kill":
		unsupported(line, "%s", w)
	}
	p.space()
	if strings.HasPrefix(p.src[p.at:], "->") && builtins[w] == nil {
		return constant{w} // the name of a class
	}
	return p.callTerm(w, line)
}

// callTerm reads the arguments of a call, with and without parentheses.
func (p *parser) callTerm(w string, line int) node {
	c := &call{name: strings.TrimPrefix(w, "main::"), line: line}
	fn := builtins[w]
	switch {
	case p.peekAt(0) == '(':
		c.args = p.parenthesized()
	case fn != nil && fn.arity == 0:
	case fn != nil && fn.arity == 1:
		if p.termFollows() && p.peekAt(0) != '<' {
			c.args = p.binary(levelUnary + 1)
		}
	case fn == nil && !p.startsArgument():
		c.bare = true
	case p.termFollows():
		c.args = p.binary(levelList)
	default:
		c.bare = true
	}
	if fn != nil {
		return &builtinCall{c.name, fn, c.args, line}
	}
	return c
}

// startsArgument says whether what follows a name that is no builtin is an argument. An
// operator is more likely behind a name than a term that begins like one.
func (p *parser) startsArgument() bool {
	c := p.peekAt(0)
	if c == '<' {
		return p.peekAt(1) == '<' && (p.peekAt(2) == '"' || p.peekAt(2) == '\'' || isNameStart(p.peekAt(2)))
	}
	return strings.IndexByte(`$@"'\[`, c) >= 0 && c != 0 || isWordByte(c) && p.termFollows()
}

func (p *parser) declaration(word string) node {
	line := p.line
	d := &declare{word: word, line: line}
	p.space()
	if p.peekAt(0) == '(' {
		d.parens = true
		p.at++
		for !p.take(")") {
			if p.takeWord("undef") {
				d.names = append(d.names, "")
			} else {
				d.names = append(d.names, p.declaredName())
			}
			p.take(",")
		}
		return d
	}
	d.names = []string{p.declaredName()}
	if c := p.peekAt(0); word == "local" && (c == '[' || c == '{') {
		unsupported(line, "local on an element")
	}
	return d
}

func (p *parser) declaredName() string {
	p.space()
	sigil := p.peekAt(0)
	if sigil != '$' && sigil != '@' && sigil != '%' {
		p.syntax("%q where a variable should be", p.rest())
	}
	p.at++
	name := p.variableName()
	if name == "" {
		p.syntax("a declaration without a name")
	}
	return string(sigil) + name
}

// blockFunction reads map, grep and sort, whose first argument may be a block.
func (p *parser) blockFunction(w string) node {
	line := p.line
	n := &eachItem{word: w, line: line}
	parens := p.take("(")
	p.space()
	if p.peekAt(0) == '{' {
		n.body = p.braces()
		p.take(",")
	} else if w != "sort" {
		n.body = &block{list: []node{p.binary(levelAssign)}}
		p.want(",")
	}
	n.over = &list{}
	if p.termFollows() {
		n.over = p.binary(levelList)
	}
	if parens {
		p.want(")")
	}
	return n
}
