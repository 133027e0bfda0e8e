package perl

import (
	"regexp"
	"strings"
)

// parser reads a program. What it cannot read ends in an UnsupportedError: whether Perl
// could is not its to say.
type parser struct {
	in   *Interp
	src  string
	at   int
	line int
	// heredocEnd is where the line behind the here-documents of the current line begins;
	// 0: there are none.
	heredocEnd, heredocLines int
	depth                    int
}

func parse(src string, line int, in *Interp) *block {
	p := &parser{in: in, src: src, line: line}
	b := p.statements(true)
	return b
}

// sub is a parser over a part of the source.
func (p *parser) sub(src string, line int) *parser {
	q := &parser{in: p.in, src: src, line: line, depth: p.depth + 1}
	if q.depth > maxNesting {
		unsupported(line, "nesting of more than %d levels", maxNesting)
	}
	return q
}

const maxNesting = 200

func (p *parser) syntax(format string, args ...any) {
	unsupported(p.line, "syntax: "+format, args...)
}

func (p *parser) peekAt(n int) byte {
	if p.at+n < len(p.src) {
		return p.src[p.at+n]
	}
	return 0
}

// space skips blanks, comments, POD and the bodies of here-documents.
func (p *parser) space() {
	for p.at < len(p.src) {
		switch c := p.src[p.at]; {
		case c == '\n':
			p.at++
			p.line++
			if p.heredocEnd > 0 {
				p.at, p.line = p.heredocEnd, p.line+p.heredocLines
				p.heredocEnd, p.heredocLines = 0, 0
			}
			p.pod()
		case c == ' ' || c == '\t' || c == '\r' || c == '\f':
			p.at++
		case c == '#':
			for p.at < len(p.src) && p.src[p.at] != '\n' {
				p.at++
			}
		case c == '=' && p.at == 0:
			if !p.pod() {
				return
			}
		default:
			return
		}
	}
}

// pod skips a document that begins at the start of this line.
func (p *parser) pod() bool {
	if p.peekAt(0) != '=' || !isNameStart(p.peekAt(1)) {
		return false
	}
	for p.at < len(p.src) {
		line, _, _ := strings.Cut(p.src[p.at:], "\n")
		p.at = min(p.at+len(line)+1, len(p.src))
		p.line++
		if strings.HasPrefix(line, "=cut") {
			break
		}
	}
	return true
}

// take consumes an operator or a punctuation mark.
func (p *parser) take(mark string) bool {
	p.space()
	if strings.HasPrefix(p.src[p.at:], mark) {
		p.at += len(mark)
		return true
	}
	return false
}

func (p *parser) want(mark string) {
	if !p.take(mark) {
		p.syntax("%q where %q should be", p.rest(), mark)
	}
}

// rest is a bit of what comes next, for messages.
func (p *parser) rest() string {
	line, _, _ := strings.Cut(p.src[p.at:], "\n")
	return line[:min(len(line), 30)]
}

// word returns the identifier that comes next, with its package, without consuming it.
func (p *parser) word() string {
	p.space()
	at := p.at
	if at >= len(p.src) || !isNameStart(p.src[at]) {
		return ""
	}
	for at < len(p.src) {
		if isWordByte(p.src[at]) {
			at++
		} else if strings.HasPrefix(p.src[at:], "::") && at+2 < len(p.src) && isNameStart(p.src[at+2]) {
			at += 2
		} else {
			break
		}
	}
	return p.src[p.at:at]
}

func (p *parser) takeWord(word string) bool {
	if p.word() != word {
		return false
	}
	p.at += len(word)
	return true
}

// statements reads up to the closing brace, or to the end of the source.
func (p *parser) statements(top bool) *block {
	b := &block{}
	for {
		p.space()
		if p.at >= len(p.src) {
			if !top {
				p.syntax("a block without its }")
			}
			return b
		}
		if p.src[p.at] == '}' {
			if top {
				p.syntax("} without {")
			}
			p.at++
			return b
		}
		if p.src[p.at] == ';' {
			p.at++
			continue
		}
		if w := p.word(); w == "__END__" || w == "__DATA__" {
			return b
		}
		b.list = append(b.list, p.statement())
	}
}

func (p *parser) braces() *block {
	p.depth++
	defer func() { p.depth-- }()
	if p.depth > maxNesting {
		unsupported(p.line, "nesting of more than %d levels", maxNesting)
	}
	p.want("{")
	return p.statements(false)
}

func (p *parser) statement() node {
	line := p.line
	switch w := p.word(); w {
	case "use", "no":
		p.at += len(w)
		return p.use(w, line)
	case "package":
		p.at += len(w)
		if name := p.word(); name != "main" {
			unsupported(line, "package %s", name)
		}
		p.at += len("main")
		return constant{nil}
	case "BEGIN", "INIT":
		if p.blockFollows(w) {
			p.at += len(w)
			return &bare{p.braces()}
		}
	case "END":
		if p.blockFollows(w) {
			p.at += len(w)
			p.braces() // runs when everything is over
			return constant{nil}
		}
	case "sub":
		save, saveLine := p.at, p.line
		p.at += len(w)
		if name := p.word(); name != "" {
			p.at += len(name)
			p.prototype()
			return &define{name: strings.TrimPrefix(name, "main::"), body: p.braces()}
		}
		p.at, p.line = save, saveLine
	case "if", "unless":
		p.at += len(w)
		return p.conditional(w == "unless")
	case "while", "until":
		p.at += len(w)
		p.want("(")
		cond := p.expression()
		p.want(")")
		return &while{cond: cond, negate: w == "until", body: p.braces(), line: line}
	case "for", "foreach":
		p.at += len(w)
		return p.foreach(line)
	case "":
		if p.peekAt(0) == '{' && !p.hashFollows() {
			return &bare{p.braces()}
		}
	}
	n := p.modified(p.expression())
	p.space()
	if p.at < len(p.src) && p.src[p.at] != ';' && p.src[p.at] != '}' {
		p.syntax("%q where a statement should end", p.rest())
	}
	return n
}

var hashStart = regexp.MustCompile(`^\{\s*(?:\w+|'[^'\\]*'|"[^"\\]*"|\$\w+)\s*(?:,|=>)`)

// hashFollows guesses, as Perl does, whether a { that begins a statement is a hash.
func (p *parser) hashFollows() bool { return hashStart.MatchString(p.src[p.at:]) }

func (p *parser) blockFollows(word string) bool {
	rest := strings.TrimLeft(p.src[p.at+len(word):], " \t\r\n")
	return strings.HasPrefix(rest, "{")
}

// prototype skips the ($$) of a sub.
func (p *parser) prototype() {
	p.space()
	if p.peekAt(0) != '(' {
		return
	}
	end := strings.IndexByte(p.src[p.at:], ')')
	if end < 0 || strings.Trim(p.src[p.at+1:p.at+end], "$@%&*;\\ ") != "" {
		unsupported(p.line, "a signature")
	}
	p.at += end + 1
}

func (p *parser) use(word string, line int) node {
	p.space()
	if c := p.peekAt(0); isDigit(c) || c == 'v' && isDigit(p.peekAt(1)) {
		for p.at < len(p.src) && p.src[p.at] != ';' {
			p.at++
		}
		return constant{nil}
	}
	module := p.word()
	if module == "" {
		p.syntax("use without a module")
	}
	p.at += len(module)
	u := &useModule{module: module, line: line}
	p.space()
	if c := p.peekAt(0); c != ';' && c != '}' && c != 0 {
		u.args = p.expression()
	}
	if word == "no" {
		return constant{nil}
	}
	return u
}

func (p *parser) conditional(negate bool) node {
	n := &cond{negate: negate}
	p.want("(")
	n.test = p.expression()
	p.want(")")
	n.yes = p.braces()
	switch {
	case p.takeWord("elsif"):
		n.no = p.conditional(false)
	case p.takeWord("else"):
		n.no = &bare{p.braces()}
	}
	return n
}

func (p *parser) foreach(line int) node {
	n := &foreach{line: line, name: "$_"}
	switch {
	case p.takeWord("my"), p.takeWord("our"):
		n.lexical = true
	}
	p.space()
	if p.peekAt(0) == '$' {
		p.at++
		name := p.word()
		if name == "" {
			p.syntax("a loop without its variable")
		}
		p.at += len(name)
		n.name = "$" + name
	}
	p.want("(")
	if !p.take(")") {
		n.over = p.expression()
		p.space()
		if p.peekAt(0) == ';' {
			unsupported(line, "for (;;)")
		}
		p.want(")")
	}
	n.body = p.braces()
	return n
}

// modified reads the modifiers behind a simple statement.
func (p *parser) modified(n node) node {
	line := p.line
	switch w := p.word(); w {
	case "if", "unless":
		p.at += len(w)
		test := p.expression()
		return &cond{test: test, negate: w == "unless", yes: &block{list: []node{n}, noScope: true}}
	case "for", "foreach":
		p.at += len(w)
		return &foreach{line: line, name: "$_", over: p.expression(), body: &block{list: []node{n}}}
	case "while", "until":
		p.at += len(w)
		return &while{cond: p.expression(), negate: w == "until", body: &block{list: []node{n}}, line: line}
	}
	return n
}

// heredoc reads `<<EOF`, `<<'EOF'`, `<<"EOF"` and `<<~EOF` at the <<, or nothing.
func (p *parser) heredoc() (node, bool) {
	at := p.at + 2
	indented := at < len(p.src) && p.src[at] == '~'
	if indented {
		at++
	}
	if at >= len(p.src) {
		return nil, false
	}
	quote, tag := p.src[at], ""
	switch {
	case quote == '"' || quote == '\'':
		end := strings.IndexByte(p.src[at+1:], quote)
		if end < 0 {
			return nil, false
		}
		tag = p.src[at+1 : at+1+end]
		at += end + 2
	case isNameStart(quote):
		from := at
		for at < len(p.src) && isWordByte(p.src[at]) {
			at++
		}
		tag, quote = p.src[from:at], '"'
	default:
		return nil, false
	}
	line := p.line + 1 + p.heredocLines
	p.at = at
	from := p.heredocEnd
	if from == 0 {
		newline := strings.IndexByte(p.src[at:], '\n')
		if newline < 0 {
			p.syntax("a here-document without a body")
		}
		from = at + newline + 1
	}
	body, end, lines := p.heredocBody(from, tag, indented)
	p.heredocEnd, p.heredocLines = end, p.heredocLines+lines
	if quote == '\'' {
		return constant{body}, true
	}
	return p.interpolate(body, stringText, line), true
}

func (p *parser) heredocBody(from int, tag string, indented bool) (body string, end, lines int) {
	var all []string
	for at := from; at < len(p.src); {
		line, _, found := strings.Cut(p.src[at:], "\n")
		at += len(line) + 1
		lines++
		bare := strings.TrimSuffix(line, "\r")
		if bare == tag || indented && strings.TrimLeft(bare, " \t") == tag {
			if indented {
				outdent(all)
			}
			return strings.Join(all, ""), min(at, len(p.src)), lines
		}
		if found {
			line += "\n"
		}
		all = append(all, line)
	}
	p.syntax("a here-document without its %s", tag)
	return "", 0, 0
}

// outdent takes from each line the indentation that all have.
func outdent(lines []string) {
	least := -1
	for _, l := range lines {
		if strings.TrimSpace(l) == "" {
			continue
		}
		if n := len(l) - len(strings.TrimLeft(l, " \t")); least < 0 || n < least {
			least = n
		}
	}
	for i, l := range lines {
		n := len(l) - len(strings.TrimLeft(l, " \t"))
		lines[i] = l[min(max(least, 0), n):]
	}
}
