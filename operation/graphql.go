package operation

import (
	"bytes"
	"errors"
	"fmt"
	"net/url"
	"slices"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/parser"
)

// mostTokens bounds a GraphQL document. The parser bounds how deep it may be nested.
const mostTokens = 50_000

// graphQLRequest is one as a client sends it.
type graphQLRequest struct {
	query     string
	operation string         // its name; empty for the only one
	variables jsontext.Value // an object; nil for none
}

// graphQLValue is the value of an argument of a directive in the operation that the
// request has executed. Some backends (express-graphql, graphene-django) take from the
// URL first what a POST has in its body; others do not look there. So where both can be
// executed, both must have the same value.
func (q *Asked) graphQLValue(directive, argument string) (string, bool, error) {
	r, err := q.graphQL()
	if err != nil {
		return "", false, err
	}
	value, there, err := r.value(directive, argument)
	if err != nil || string(q.Head.Method()) == "GET" {
		return value, there, err
	}
	byURL, differs, err := q.graphQLByURL(r)
	if err != nil || !differs {
		return value, there, err
	}
	other, otherThere, err := byURL.value(directive, argument)
	switch {
	case errors.Is(err, ErrUnreadable): // who takes that executes nothing
		return value, there, nil
	case err != nil:
		return "", false, err
	case there != otherThere || value != other:
		return "", false, errTwoRequests
	}
	return value, there, nil
}

var errTwoRequests = fmt.Errorf("%w: the URL has another query, operationName or variables than the body, and backends do not "+
	"agree on which of them count; leave them out of the URL", ErrBatch)

// value is the argument's: on the operation itself or on any of its fields, those of
// fragments included. Several must agree.
func (r *graphQLRequest) value(directive, argument string) (string, bool, error) {
	if r.query == "" {
		return "", false, nil
	}
	document, err := parser.ParseQueryWithTokenLimit(&ast.Source{Input: r.query}, mostTokens)
	if err != nil {
		return "", false, fmt.Errorf("%w: its GraphQL document is malformed", ErrUnreadable)
	}
	operation, err := operationOf(document, r.operation)
	if err != nil {
		return "", false, err
	}
	w := graphQLWalk{fragments: document.Fragments, directive: directive, argument: argument, seen: map[string]bool{}}
	w.take(operation.Directives)
	w.walk(operation.SelectionSet)
	given, err := r.given(w.values)
	if err != nil {
		return "", false, err
	}
	var found string
	there := false
	for _, value := range w.values {
		one, is, err := textOf(operation, value, given)
		switch {
		case err != nil:
			return "", false, err
		case !is:
		case there && one != found:
			return "", false, ErrBatch
		default:
			found, there = one, true
		}
	}
	return found, there, nil
}

// graphQL reads the request: a JSON body, one that is the document, or for GET the
// query's fields, as GraphQL over HTTP has them.
func (q *Asked) graphQL() (r graphQLRequest, err error) {
	if string(q.Head.Method()) == "GET" {
		return q.graphQLOfQuery()
	}
	if !q.hasGraphQL() || len(q.Body) == 0 {
		return r, nil
	}
	body, err := q.Plain()
	switch {
	case err != nil:
		return r, err
	case q.mediaType() == graphQLType:
		r.query = string(body)
		return r, nil
	case isBatch(body):
		return r, ErrBatch
	}
	members, err := membersOf(body, map[string]bool{"query": true, "operationName": true, "variables": true})
	if err != nil {
		return r, fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	for member, to := range map[string]*string{"query": &r.query, "operationName": &r.operation} {
		if value := members[member]; len(value) > 0 && value.Kind() == '"' {
			text, _ := jsontext.AppendUnquote(nil, value) // was read already
			*to = string(text)
		}
	}
	r.variables = members["variables"]
	return r, nil
}

// hasGraphQL says of the header of what is no GET that a request of GraphQL may be in the body.
func (q *Asked) hasGraphQL() bool {
	return q.Head.HasBody() && (q.isJSON() || q.mediaType() == graphQLType)
}

func (q *Asked) graphQLOfQuery() (graphQLRequest, error) {
	r, _, err := q.graphQLByURL(graphQLRequest{})
	return r, err
}

// graphQLByURL is a request with what the URL has of one in place of its own, and whether
// there is any. A URL that has nothing of it may be malformed.
func (q *Asked) graphQLByURL(r graphQLRequest) (_ graphQLRequest, has bool, err error) {
	_, query, _ := bytes.Cut(q.Target, []byte{'?'})
	values, malformed := url.ParseQuery(string(query))
	for _, name := range []string{"query", "operationName", "variables"} {
		all := values[name]
		if slices.ContainsFunc(all, func(one string) bool { return one != all[0] }) {
			return r, false, ErrBatch // backends take the first, or the last
		}
		one := values.Get(name)
		switch has = has || one != ""; {
		case one == "":
		case name == "query":
			r.query = one
		case name == "operationName":
			r.operation = one
		default:
			r.variables = jsontext.Value(one)
		}
	}
	if malformed != nil && (has || string(q.Head.Method()) == "GET") {
		return r, false, errEncoding
	}
	return r, has, nil
}

// operationOf is the one that is executed.
func operationOf(document *ast.QueryDocument, name string) (*ast.OperationDefinition, error) {
	if name == "" && len(document.Operations) == 1 {
		return document.Operations[0], nil
	}
	if one := document.Operations.ForName(name); one != nil && name != "" {
		return one, nil
	}
	return nil, fmt.Errorf("%w: its GraphQL document does not have the one operation that it names", ErrUnreadable)
}

// graphQLWalk collects the values of an argument of a directive.
type graphQLWalk struct {
	fragments           ast.FragmentDefinitionList
	directive, argument string
	seen                map[string]bool // fragments, which may name each other
	values              []*ast.Value
}

func (w *graphQLWalk) walk(set ast.SelectionSet) {
	for _, selection := range set {
		switch s := selection.(type) {
		case *ast.Field:
			w.take(s.Directives)
			w.walk(s.SelectionSet)
		case *ast.InlineFragment:
			w.take(s.Directives)
			w.walk(s.SelectionSet)
		case *ast.FragmentSpread:
			w.take(s.Directives)
			if f := w.fragments.ForName(s.Name); f != nil && !w.seen[s.Name] {
				w.seen[s.Name] = true
				w.take(f.Directives)
				w.walk(f.SelectionSet)
			}
		}
	}
}

func (w *graphQLWalk) take(all ast.DirectiveList) {
	for _, d := range all {
		if d.Name != w.directive {
			continue
		}
		if a := d.Arguments.ForName(w.argument); a != nil && a.Value != nil {
			w.values = append(w.values, a.Value)
		}
	}
}

// given are the variables that the request gives to some of the values. They are read once,
// however many values there are: both may be as long as a body.
func (r *graphQLRequest) given(values []*ast.Value) (map[string]jsontext.Value, error) {
	wanted := map[string]bool{}
	for _, value := range values {
		if value.Kind == ast.Variable {
			wanted[value.Raw] = true
		}
	}
	if len(wanted) == 0 || len(r.variables) == 0 {
		return nil, nil //nolint:nilnil // none
	}
	given, err := membersOf(r.variables, wanted)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	return given, nil
}

// textOf is a value that stands in the document, or among the variables that are given.
func textOf(o *ast.OperationDefinition, value *ast.Value, given map[string]jsontext.Value) (string, bool, error) {
	if value.Kind == ast.Variable {
		one := given[value.Raw]
		if text, there, err := textOfJSON(one); there || err != nil {
			return text, there, err
		}
		if len(one) > 0 { // null, which no default takes the place of
			return "", false, nil
		}
		d := o.VariableDefinitions.ForName(value.Raw)
		if d == nil || d.DefaultValue == nil {
			return "", false, nil
		}
		value = d.DefaultValue
	}
	switch value.Kind {
	case ast.StringValue, ast.BlockValue:
		return value.Raw, true, nil
	case ast.IntValue:
		return plainNumber([]byte(value.Raw)), true, nil
	case ast.NullValue:
		return "", false, nil
	default:
		return "", false, ErrKeyValue
	}
}
