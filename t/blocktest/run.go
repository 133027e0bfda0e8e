package blocktest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gosix/gosix/t/blocktest/perl"
)

// RunOptions say which blocks run and how. The zero value runs all of them as the file
// says.
type RunOptions struct {
	// Select picks blocks; nil picks all. What it does not pick has no Result.
	Select func(*Block) bool
	// FailFast skips what follows the first block that is NotOK.
	FailFast bool
	// Repeat, when it is not 0, stands above the file's repeat_each.
	Repeat int
	// LogGrace is how much longer than Test::Nginx a wanted log line may take; 0 is one
	// second, a negative value none.
	LogGrace time.Duration
	// Root is where the servers have their files, html below it; empty: t/servroot of the
	// checkout.
	Root string
	// BlockTime bounds one block; 0 is two minutes. A block that takes longer is NotOK, and
	// the next one finds a world that was made anew.
	BlockTime time.Duration
	// OnBlock is told of each block before it runs.
	OnBlock func(*Block)
	// OnResult is told of each Result as it comes.
	OnResult func(Result)
}

// BlockTime is the default of RunOptions.BlockTime.
const BlockTime = 2 * time.Minute

// A DiedError is what Stage returns for a gateway that ended instead of serving: what
// must_die asks for, and a failure of every other block.
type DiedError struct {
	Code int // its exit status
	Why  string
}

func (e *DiedError) Error() string {
	return fmt.Sprintf("the gateway ended with %d: %s", e.Code, e.Why)
}

// A Stopper is a World that can end the gateway of the current block, so that Logs has what
// it writes then. Without it, shutdown_error_log makes a block Unsupported.
type Stopper interface {
	Stop(ctx context.Context) error
}

// A Renewer is a World that can end what a block has left running, keeping what was stored.
type Renewer interface {
	Renew(ctx context.Context) error
}

// Run runs the blocks of a suite in a World, one after another, and judges them. home is
// the checkout that the prologue's paths begin at. The World stays open.
func Run(ctx context.Context, suite *Suite, home string, world World, opts RunOptions) []Result {
	if opts.LogGrace == 0 {
		opts.LogGrace = time.Second
	}
	if opts.BlockTime == 0 {
		opts.BlockTime = BlockTime
	}
	if opts.Root == "" {
		opts.Root = filepath.Join(home, "t/servroot")
	}
	r := &runner{suite: suite, world: world, opts: opts}
	if suite.Own {
		suite = &Suite{Path: suite.Path, Prologue: ownPrologue, Blocks: suite.Blocks, Own: true}
		r.suite = suite
	}
	program, err := runPrologue(suite, home, opts.Root)
	switch {
	case err != nil:
		r.over, r.why = Unsupported, "prologue: "+err.Error()
	case program.settings.skipAll != "":
		r.over, r.why = Skipped, program.settings.skipAll
	case !program.settings.ran:
		r.over, r.why = Skipped, "the prologue does not call run_tests"
	}
	r.program = program
	skips := chosen(suite.Blocks)
	for _, b := range suite.Blocks {
		if opts.Select != nil && !opts.Select(b) {
			continue
		}
		r.block(ctx, b, skips[b])
	}
	return r.results
}

// chosen applies ONLY, SKIP and LAST: it returns why a block does not run.
func chosen(blocks []*Block) map[*Block]string {
	skips := map[*Block]string{}
	var only, last *Block
	for _, b := range blocks {
		has := map[string]bool{}
		for _, s := range b.Sections {
			has[s.Name] = true
		}
		switch {
		case last != nil:
			skips[b] = fmt.Sprintf("block %d is LAST", last.Number)
		case has["ONLY"]:
			only = b
		case has["SKIP"]:
			skips[b] = "SKIP"
		case has["LAST"]:
			last = b
		}
		if only != nil {
			break
		}
	}
	if only != nil {
		for _, b := range blocks {
			skips[b] = fmt.Sprintf("block %d is ONLY", only.Number)
		}
		delete(skips, only)
	}
	return skips
}

type runner struct {
	suite   *Suite
	program *program
	world   World
	opts    RunOptions
	results []Result
	// over, once set, is the verdict of all blocks to come.
	over Verdict
	why  string
}

// verdict ends a block early.
type verdict struct {
	verdict Verdict
	why     string
}

func (r *runner) block(ctx context.Context, b *Block, skip string) {
	began := time.Now()
	res := Result{Suite: r.suite.Path, Number: b.Number, Name: b.Name, Line: b.Line}
	if r.opts.OnBlock != nil {
		r.opts.OnBlock(b)
	}
	switch {
	case ctx.Err() != nil:
		res.Verdict, res.Why = Skipped, "interrupted"
	case r.over != "":
		res.Verdict, res.Why = r.over, r.why
	case skip != "":
		res.Verdict, res.Why = Skipped, skip
	default:
		r.inTime(ctx, b, &res)
		res.TookMS = time.Since(began).Milliseconds()
	}
	if res.Verdict == NotOK && r.opts.FailFast && r.over == "" {
		r.over, r.why = Skipped, fmt.Sprintf("block %d is not ok", b.Number)
	}
	r.results = append(r.results, res)
	if r.opts.OnResult != nil {
		r.opts.OnResult(res)
	}
}

// inTime judges a block within its time. What a block that takes longer has said so far may
// be half of it: it is NotOK whatever it was.
func (r *runner) inTime(ctx context.Context, b *Block, res *Result) {
	limited, cancel := context.WithTimeout(ctx, r.opts.BlockTime)
	defer cancel()
	r.judge(limited, b, res)
	if limited.Err() == nil || ctx.Err() != nil {
		return
	}
	late := fmt.Sprintf("it took longer than %v", r.opts.BlockTime)
	res.Verdict, res.Why, res.Failures = NotOK, late, slices.Insert(res.Failures, 0, late)
	r.over, r.why = "", "" // the world failed because it was interrupted
	if w, ok := r.world.(Renewer); ok {
		if err := w.Renew(ctx); err != nil {
			r.over, r.why = Skipped, fmt.Sprintf("the file ended at block %d: %v", b.Number, err)
		}
	}
}

// judge runs a block and fills its Result.
func (r *runner) judge(ctx context.Context, b *Block, res *Result) {
	end, failures := r.play(ctx, b, res)
	if end == nil {
		if v, why := r.world.Verdict(); v != "" {
			end = &verdict{v, why}
		}
	}
	switch {
	case end != nil:
		res.Verdict, res.Why, res.Failures = end.verdict, end.why, failures
	case len(failures) > 0:
		res.Verdict, res.Why, res.Failures = NotOK, failures[0], failures
		r.excuse(b, res)
	default:
		res.Verdict = OK
	}
}

// failed is the verdict that an error before the first request leads to.
func failed(err error) *verdict {
	var unsupported *perl.UnsupportedError
	var staged *StageError
	switch {
	case errors.As(err, &unsupported):
		return &verdict{Unsupported, err.Error()}
	case errors.As(err, &staged):
		return &verdict{staged.Verdict, staged.Why}
	}
	return &verdict{NotOK, err.Error()}
}

func (r *runner) play(ctx context.Context, b *Block, res *Result) (end *verdict, failures []string) {
	var direct *direction
	if r.suite.Own {
		var err error
		if b, direct, err = r.direct(b); err != nil {
			return failed(err), nil
		}
	}
	prep, err := r.program.prepare(b)
	if err != nil {
		return failed(err), nil
	}
	s := prep.sections
	if prep.Own = r.suite.Own; prep.Own {
		if err := ownDefaults(s, b); err != nil {
			return failed(err), nil
		}
	}
	ignored, unoffered := s.sorted(b)
	res.Ignored = ignored
	if why, skip, err := r.program.skipped(s); err != nil {
		return failed(err), nil
	} else if skip {
		return &verdict{Skipped, why}, nil
	}
	if err := r.program.evalOld(s); err != nil {
		return failed(err), nil
	}
	if end := r.unoffered(s, append(unoffered, s.unread(b)...)); end != nil {
		return end, nil
	}
	p := &play{runner: r, prep: prep, s: s, env: r.program.settings.Env, direction: direct}
	if err := p.plan(); err != nil {
		return failed(err), nil
	}
	if end := p.stage(ctx); end != nil {
		return end, p.failures
	}
	if s.has("must_die") {
		return nil, p.failures
	}
	if direct != nil {
		if err := r.world.(Director).Direct(ctx, &direct.script); err != nil {
			return &verdict{NotOK, err.Error()}, p.failures
		}
	}
	if err := p.run(ctx); err != nil {
		return &verdict{NotOK, err.Error()}, p.failures
	}
	return nil, p.failures
}

// unoffered says which of a block's sections would go unchecked.
func (r *runner) unoffered(s *sections, names []string) *verdict {
	beside := func(other string, hidden []string) {
		for _, name := range hidden {
			if s.has(other) && s.has(name) {
				names = append(names, name+" together with "+other)
			}
		}
	}
	beside("ignore_response", ofResponse)
	beside("must_die", ofServing)
	if s.has("shutdown_error_log") || s.has("no_shutdown_error_log") {
		if _, ok := r.world.(Stopper); !ok {
			names = append(names, "shutdown_error_log in this world")
		}
	}
	if len(names) == 0 {
		return nil
	}
	return &verdict{Unsupported, "section " + strings.Join(names, ", ")}
}

// evalOld evaluates the sections that were written before there was an eval filter.
func (p *program) evalOld(s *sections) error {
	for _, name := range []string{"request_eval", "response_body_eval"} {
		if !s.has(name) {
			continue
		}
		values, err := evalText(p.in, perl.Text(s.get(name)), 1)
		if err != nil {
			return fmt.Errorf("section %s: %w", name, err)
		}
		if name == "request_eval" {
			name = "request"
		}
		s.values[name] = values
	}
	return nil
}

// A play is one block on its stage.
type play struct {
	runner   *runner
	prep     *Prepared
	s        *sections
	env      map[string]string
	failures []string
	// direction is what a block of the project's own asks for; nil: it is none.
	direction *direction

	requests      []outgoing
	timeout, wait time.Duration
	shutdown      int
	logs          *logReader
}

// plan reads what the block says about its requests.
func (p *play) plan() (err error) {
	if p.timeout, err = seconds(p.s.get("timeout")); err != nil {
		return fmt.Errorf("section timeout: %w", err)
	}
	if p.timeout == 0 {
		p.timeout = 3 * time.Second
		if p.direction != nil {
			p.timeout = 20 * time.Second // ours do not wait for silence, and machines may be busy
		}
		if args := p.runner.program.settings.Calls["timeout"]; len(args) > 0 {
			if p.timeout, err = seconds(args[0]); err != nil {
				return fmt.Errorf("prologue: timeout: %w", err)
			}
		}
	}
	if p.wait, err = seconds(p.s.get("wait")); err != nil {
		return fmt.Errorf("section wait: %w", err)
	}
	p.shutdown = -1
	if p.s.has("shutdown") {
		how := strings.TrimSpace(perl.Text(p.s.get("shutdown")))
		if p.shutdown = 1; how != "" {
			if p.shutdown, err = strconv.Atoi(how); err != nil || p.shutdown < 0 || p.shutdown > 2 {
				return fmt.Errorf("section shutdown: %q is not 0, 1 or 2", how)
			}
		}
	}
	if p.s.has("must_die") {
		if d := p.direction; d != nil && (len(d.expected)+len(d.faults)+len(d.script.Calls)+len(d.script.Writes) > 0 || p.s.has("stream")) {
			return errors.New("section must_die: a gateway that does not serve leaves the sections beside it unchecked")
		}
		return nil
	}
	if p.requests, err = p.s.requests(p.env); err != nil {
		return err
	}
	if err := p.surplus(); err != nil || p.direction == nil {
		return err
	}
	return p.direction.late(len(p.requests))
}

// surplus reports expectations of more answers than there will be: nobody would check them.
// Test::Nginx passes them over, so that only in our own suites they are a failure.
func (p *play) surplus() error {
	answers := 0
	for _, r := range p.requests {
		answers += r.answers
	}
	for _, name := range ofEachResponse {
		if a, ok := p.s.get(name).(*perl.Array); ok && len(a.Elems) > answers {
			why := fmt.Sprintf("%s: it is about %d answers, and there will be %d", name, len(a.Elems), answers)
			if p.direction == nil {
				return &StageError{Unsupported, why}
			}
			return errors.New(why)
		}
	}
	return nil
}

// stage sets the stage, and judges must_die.
func (p *play) stage(ctx context.Context) *verdict {
	err := p.runner.world.Stage(ctx, p.prep)
	_, whole := p.runner.program.settings.Calls["check_accum_error_log"]
	p.logs = &logReader{world: p.runner.world, grace: p.runner.opts.LogGrace, whole: whole}
	var staged *StageError
	var died *DiedError
	switch {
	case errors.As(err, &staged):
		return &verdict{staged.Verdict, staged.Why}
	case errors.As(err, &died):
		if !p.s.has("must_die") {
			return &verdict{NotOK, err.Error()}
		}
	case err != nil:
		p.runner.over, p.runner.why = Skipped, fmt.Sprintf("the file ended at block %d: %v", p.prep.Block.Number, err)
		return &verdict{NotOK, err.Error()}
	}
	if !p.s.has("must_die") {
		return nil
	}
	j := p.judge(nil, 0, false)
	want := strings.TrimSpace(perl.Text(p.s.get("must_die")))
	code, numeric := strconv.Atoi(want)
	switch {
	case died == nil:
		j.fail("must_die", "the gateway serves")
	case numeric == nil && code != died.Code:
		j.fail("must_die", "got exit status %d, want %d", died.Code, code)
	case died.Code == 0:
		j.fail("must_die", "the gateway ended with status 0")
	}
	if err := j.checkErrorLog(ctx, p.logs, 0); err != nil {
		return &verdict{NotOK, err.Error()}
	}
	return nil
}

func (p *play) judge(resp *response, index int, many bool) *judge {
	return &judge{sections: p.s, env: p.env, resp: resp, index: index, many: many, failures: &p.failures}
}

// run makes the requests as often as repeat_each says, and at last ends the gateway when
// its last words matter.
func (p *play) run(ctx context.Context) error {
	repeat := p.runner.program.settings.Repeat
	if p.runner.opts.Repeat > 0 {
		repeat = p.runner.opts.Repeat
	}
	for round := range repeat {
		if err := p.round(ctx, round); err != nil {
			return err
		}
	}
	if err := p.checkUpstreams(ctx); err != nil {
		return err
	}
	if !p.s.has("shutdown_error_log") && !p.s.has("no_shutdown_error_log") {
		return nil
	}
	if err := p.runner.world.(Stopper).Stop(ctx); err != nil {
		return err
	}
	all, _ := p.runner.world.Logs()
	j := p.judge(nil, 0, false)
	j.wantLines("shutdown_error_log", logLines(all))
	j.refuseLines("no_shutdown_error_log", logLines(all))
	return nil
}

func (p *play) round(ctx context.Context, round int) error {
	for i, req := range p.requests {
		if err := p.fault(ctx, i); err != nil {
			return err
		}
		got, err := p.send(ctx, req)
		if err != nil {
			return err
		}
		if got.timedOut && !p.s.has("abort") {
			p.failures = append(p.failures, fmt.Sprintf("request %d: no answer, or no end of it, within %v", i+1, p.timeout))
		}
		raw := got.raw
		for n := range req.answers {
			many := len(p.requests) > 1 || p.s.has("pipelined_requests")
			j := p.judge(nil, i+n, many)
			if !p.s.has("ignore_response") {
				raw = p.answer(j, got, raw, req.head())
			}
			if err := pause(ctx, p.wait); err != nil {
				return err
			}
			if err := j.checkErrorLog(ctx, p.logs, round); err != nil {
				return err
			}
			if err := j.checkAccessLog(ctx, p.logs); err != nil {
				return err
			}
		}
	}
	return nil
}

// answer judges the first answer in raw, a part of what was got, and returns what is behind
// it.
func (p *play) answer(j *judge, got *received, raw []byte, head bool) []byte {
	if p.s.has("http09") {
		j.resp = &response{code: "200", body: string(raw)}
		j.checkAnswer()
		return nil
	}
	resp, err := parseResponse(raw, head)
	if j.resp = resp; p.direction != nil && j.has("stream") {
		j.checkStream(got, head, err)
	} else if err != nil {
		j.fail("response", "%v", err)
		return nil
	}
	j.checkAnswer()
	return resp.left
}

func (p *play) send(ctx context.Context, req outgoing) (*received, error) {
	addr := p.runner.world.Addr()
	if p.s.has("server_addr_for_client") {
		_, port, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, err
		}
		addr = net.JoinHostPort(strings.TrimSpace(perl.Text(p.s.get("server_addr_for_client"))), port)
	}
	if p.s.has("http2") && !p.s.has("no_http2") {
		if p.s.has("raw_request") || p.s.has("pipelined_requests") {
			return nil, errors.New("section http2: it goes with the section request alone")
		}
		return sendHTTP2(ctx, addr, req, p.timeout)
	}
	return send(ctx, addr, req, p.timeout, p.shutdown)
}
