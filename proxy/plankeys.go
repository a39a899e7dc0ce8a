package proxy

import (
	"slices"
	"strings"

	"github.com/valyala/fasthttp"
)

// Which keys of an earlier plan are found by another one.

// losesKeys says what carried the keys of an earlier route and does not on this one.
// The first source that is there has the key, so earlier sources must come first, and in
// their order: one before them would give a request another key.
func (r *plannedRoute) losesKeys(earlier *plannedRoute, found Orphan) (lost Orphan, is bool) {
	lost = found
	if len(earlier.Key) == 0 {
		gone := slices.DeleteFunc(slices.Clone(earlier.KeyHeaders), func(h string) bool {
			return slices.Contains(r.leading(len(earlier.KeyHeaders)), h)
		})
		if len(gone) == 0 {
			return lost, false
		}
		lost.Kind, lost.Lost = OrphanHeader, strings.Join(gone, ", ")
		lost.Setting, lost.Value = "key_headers", slices.Concat(r.KeyHeaders, gone)
		if len(r.Key) > 0 {
			lost.Setting, lost.Value = "key", behind(headerSources(earlier.KeyHeaders), r.Key)
		}
		return lost, true
	}
	has := r.Key
	if len(has) == 0 {
		has = headerSources(r.KeyHeaders)
		if !slices.ContainsFunc(earlier.Key, func(s string) bool { return !slices.Contains(has, s) }) {
			return lost, false // fields that must agree now
		}
	}
	if len(has) >= len(earlier.Key) && slices.Equal(has[:len(earlier.Key)], earlier.Key) {
		return lost, false
	}
	lost.Kind, lost.Lost, lost.Setting, lost.Value = OrphanKey, strings.Join(earlier.Key, ", "), "key", behind(earlier.Key, has)
	return lost, true
}

// leading are the fields that carry keys before anything else does: of n sources, since
// those of key_headers have no order.
func (r *plannedRoute) leading(n int) (fields []string) {
	if len(r.Key) == 0 {
		return r.KeyHeaders
	}
	for _, source := range r.Key[:min(n, len(r.Key))] {
		field, is := strings.CutPrefix(source, "header:")
		if !is || strings.Contains(field, "+") {
			return fields
		}
		fields = append(fields, field)
	}
	return fields
}

func headerSources(fields []string) (all []string) {
	for _, field := range fields {
		all = append(all, "header:"+field)
	}
	return all
}

// behind are sources, and behind them others that are not among them.
func behind(first, then []string) []string {
	return slices.Concat(first, slices.DeleteFunc(slices.Clone(then), func(s string) bool { return slices.Contains(first, s) }))
}

// shows says whether a request of a method shows what is lost.
func (r *plannedRoute) shows(earlier *plannedRoute, lost OrphanKind, method string) bool {
	counted := len(earlier.KeyMethods) == 0 || slices.Contains(earlier.KeyMethods, method)
	switch lost {
	case OrphanDerived:
		return method == fasthttp.MethodPost || method == fasthttp.MethodPatch
	case OrphanMethod:
		return counted && !slices.Contains(r.KeyMethods, method)
	case OrphanHeader, OrphanKey, OrphanScope:
		return counted
	case OrphanSecret:
	}
	return true
}
