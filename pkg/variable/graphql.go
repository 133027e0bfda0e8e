package variable

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"
	"github.com/vektah/gqlparser/v2/parser"

	"github.com/gosix/gosix/pkg/exchange"
	"github.com/gosix/gosix/pkg/jsonedit"
)

const (
	defaultGraphQLLimit = 1 << 20
	// graphQLTokens bounds the work, and how deep a document nests: the parser descends.
	graphQLTokens = 20_000
	// shownQuery is how much of a document the log shows, in bytes.
	shownQuery = 64
)

//lint:ignore ST1005 the reference's words
var errManyOperations = errors.New("Multiple operations are not supported. Only the first one is handled")

// graphql reads what a GraphQL request asks for (spec/03 §6): of its first operation. The
// errors are the reference's.
func graphql(name string) (Getter, error) {
	var read func(*exchange.GraphQL) Value
	switch name {
	case "name":
		read = func(op *exchange.GraphQL) Value { return Text(op.Name) }
	case "operation":
		read = func(op *exchange.GraphQL) Value { return Text(op.Operation) }
	case "root_fields":
		read = func(op *exchange.GraphQL) Value {
			fields := make([]Value, len(op.RootFields))
			for i, f := range op.RootFields {
				fields[i] = Text(f)
			}
			return List(fields)
		}
	default:
		return nil, fmt.Errorf("no variable graphql_%s", name)
	}
	return func(x *exchange.Exchange) Value {
		op := operation(x)
		if op.Operation == "" {
			return Value{}
		}
		return read(op)
	}, nil
}

// operation is the request's first operation, read once; without a kind if there is none.
func operation(x *exchange.Exchange) *exchange.GraphQL {
	r := &x.Request
	if r.GraphQL != nil {
		return r.GraphQL
	}
	r.GraphQL = &exchange.GraphQL{}
	text, err := graphQLText(x)
	if err != nil {
		misread(x, fmt.Errorf("failed to read graphql data, %w", err))
		return r.GraphQL
	}
	doc, err := parser.ParseQueryWithTokenLimit(&ast.Source{Input: text}, graphQLTokens)
	if err != nil {
		shown := text
		if len(shown) > shownQuery {
			shown = shown[:shownQuery] + "…"
		}
		misread(x, fmt.Errorf("failed to parse graphql: %s body: %s", syntaxError(err), shown))
		return r.GraphQL
	}
	switch len(doc.Operations) {
	case 0:
		misread(x, errors.New("empty graphql"))
		return r.GraphQL
	case 1:
	default:
		misread(x, errManyOperations)
	}
	first := doc.Operations[0]
	r.GraphQL.Name, r.GraphQL.Operation = first.Name, string(first.Operation)
	r.GraphQL.RootFields = rootFields(nil, first.SelectionSet, doc.Fragments, map[string]bool{})
	return r.GraphQL
}

// graphQLText is the document of a request.
func graphQLText(x *exchange.Exchange) (string, error) {
	r := &x.Request
	switch r.Method {
	case http.MethodGet:
		v := QueryValue(r.RawQuery, "query")
		if v.IsNil() {
			return "", errors.New("args[query] is nil")
		}
		return v.String(), nil
	case http.MethodPost:
	default:
		return "", fmt.Errorf("graphql not support `%s` request", r.Method)
	}
	limit := r.GraphQLLimit
	if limit == 0 {
		limit = defaultGraphQLLimit
	}
	body, err := r.Body.Bytes(limit)
	switch {
	case err != nil:
		return "", err
	case len(body) == 0:
		return "", errors.New("request body has zero size")
	}
	if contentType := r.Header.Get("Content-Type"); contentType == "" || mediaOf(contentType) != jsonBody {
		return string(body), nil
	}
	doc, err := r.Body.JSON(limit, strict)
	if err != nil {
		return "", err
	}
	raw, kind, ok := doc.Get("query")
	if !ok || kind != jsonedit.String {
		return "", errors.New("json body[query] is nil")
	}
	return jsonedit.Unquote(raw)
}

// syntaxError says where a document is wrong, and no more of it than that.
func syntaxError(err error) string {
	var syntax *gqlerror.Error
	if errors.As(err, &syntax) && len(syntax.Locations) > 0 {
		return fmt.Sprintf("Syntax error near line %d", syntax.Locations[0].Line)
	}
	return strings.TrimPrefix(err.Error(), "input: ")
}

// rootFields lists the names of the fields that an operation asks for, whichever fragment
// they stand in. A fragment is taken once.
func rootFields(names []string, set ast.SelectionSet, fragments ast.FragmentDefinitionList, seen map[string]bool) []string {
	for _, s := range set {
		switch s := s.(type) {
		case *ast.Field:
			names = append(names, s.Name)
		case *ast.InlineFragment:
			names = rootFields(names, s.SelectionSet, fragments, seen)
		case *ast.FragmentSpread:
			if f := fragments.ForName(s.Name); f != nil && !seen[s.Name] {
				seen[s.Name] = true
				names = rootFields(names, f.SelectionSet, fragments, seen)
			}
		}
	}
	return names
}

// misread keeps the first reason why a variable of a body has no value, for the log.
func misread(x *exchange.Exchange, err error) {
	if x.Request.Misread == nil {
		x.Request.Misread = err
	}
}
