package lua

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	glua "github.com/yuin/gopher-lua"
	"github.com/yuin/gopher-lua/ast"
	"github.com/yuin/gopher-lua/parse"
)

// chunkCache keeps what was compiled: the handlers of a location run many times.
type chunkCache struct {
	mu     sync.Mutex
	protos map[[2]string]*glua.FunctionProto
}

func (c *chunkCache) compile(name, src string) (*glua.FunctionProto, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := [2]string{name, src}
	if p := c.protos[key]; p != nil {
		return p, nil
	}
	p, err := compile(name, src)
	if err != nil {
		return nil, err
	}
	if c.protos == nil {
		c.protos = map[[2]string]*glua.FunctionProto{}
	}
	c.protos[key] = p
	return p, nil
}

func compile(name, src string) (proto *glua.FunctionProto, err error) {
	chunk, err := parse.Parse(strings.NewReader(rewrite(src)), name)
	if err != nil {
		var pe *parse.Error
		if errors.As(err, &pe) {
			near := pe.Token
			if pe.Pos.Line == parse.EOF || near == "" {
				near = "<eof>"
			}
			return nil, fmt.Errorf("%s:%d: %s near '%s'", name, max(pe.Pos.Line, 0), pe.Message, near)
		}
		return nil, err
	}
	numbersInConcats(chunk)
	return glua.Compile(chunk, name)
}

// numberText is the method of strings that the operands of `..` go through. A method,
// because a chunk may have an environment of its own.
const numberText = "\x00numberText"

// numbersInConcats makes `..` print numbers as Lua does, with %.14g: the interpreter
// prints their shortest form and cannot be told otherwise.
func numbersInConcats(stmts []ast.Stmt) {
	for _, s := range stmts {
		walkStmt(s)
	}
}

func walkStmt(s ast.Stmt) {
	switch s := s.(type) {
	case *ast.AssignStmt:
		walkExprs(s.Lhs)
		walkExprs(s.Rhs)
	case *ast.LocalAssignStmt:
		walkExprs(s.Exprs)
	case *ast.FuncCallStmt:
		walkExpr(s.Expr)
	case *ast.DoBlockStmt:
		numbersInConcats(s.Stmts)
	case *ast.WhileStmt:
		walkExpr(s.Condition)
		numbersInConcats(s.Stmts)
	case *ast.RepeatStmt:
		walkExpr(s.Condition)
		numbersInConcats(s.Stmts)
	case *ast.IfStmt:
		walkExpr(s.Condition)
		numbersInConcats(s.Then)
		numbersInConcats(s.Else)
	case *ast.NumberForStmt:
		walkExprs([]ast.Expr{s.Init, s.Limit, s.Step})
		numbersInConcats(s.Stmts)
	case *ast.GenericForStmt:
		walkExprs(s.Exprs)
		numbersInConcats(s.Stmts)
	case *ast.FuncDefStmt:
		numbersInConcats(s.Func.Stmts)
	case *ast.ReturnStmt:
		walkExprs(s.Exprs)
	}
}

func walkExprs(exprs []ast.Expr) {
	for _, e := range exprs {
		walkExpr(e)
	}
}

func walkExpr(e ast.Expr) {
	switch e := e.(type) {
	case *ast.AttrGetExpr:
		walkExprs([]ast.Expr{e.Object, e.Key})
	case *ast.TableExpr:
		for _, f := range e.Fields {
			walkExprs([]ast.Expr{f.Key, f.Value})
		}
	case *ast.FuncCallExpr:
		walkExprs([]ast.Expr{e.Func, e.Receiver})
		walkExprs(e.Args)
	case *ast.LogicalOpExpr:
		walkExprs([]ast.Expr{e.Lhs, e.Rhs})
	case *ast.RelationalOpExpr:
		walkExprs([]ast.Expr{e.Lhs, e.Rhs})
	case *ast.ArithmeticOpExpr:
		walkExprs([]ast.Expr{e.Lhs, e.Rhs})
	case *ast.UnaryMinusOpExpr:
		walkExpr(e.Expr)
	case *ast.UnaryNotOpExpr:
		walkExpr(e.Expr)
	case *ast.UnaryLenOpExpr:
		walkExpr(e.Expr)
	case *ast.FunctionExpr:
		numbersInConcats(e.Stmts)
	case *ast.StringConcatOpExpr:
		walkExprs([]ast.Expr{e.Lhs, e.Rhs})
		e.Lhs, e.Rhs = printable(e.Lhs), printable(e.Rhs)
	}
}

// printable wraps an operand that may be a number.
func printable(e ast.Expr) ast.Expr {
	switch e.(type) {
	case *ast.StringExpr, *ast.StringConcatOpExpr:
		return e
	}
	receiver := &ast.StringExpr{}
	call := &ast.FuncCallExpr{Receiver: receiver, Method: numberText, Args: []ast.Expr{e}, AdjustRet: true}
	for _, n := range []ast.PositionHolder{receiver, call} {
		n.SetLine(e.Line())
		n.SetLastLine(e.LastLine())
	}
	return call
}
