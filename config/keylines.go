package config

import (
	"github.com/idemproxy/idemproxy/operation"
	"github.com/idemproxy/idemproxy/proxy"
)

// rulesOfSources are about keys that are not in a header of their own.
func rulesOfSources() []settingOfRules {
	return []settingOfRules{
		&rule[[]string]{
			name: "key", as: aList(), of: func(r *Rules) *[]string { return &r.Key },
			usage: "where the key is, the first that is there: header:NAME, query:NAME, path:N or path:NAME (a segment), json:POINTER, " +
				"form:NAME, graphql:DIRECTIVE.ARGUMENT, json-rpc:POINTER (in params); several joined by + are one key; PREFIX= before " +
				"one is put before its keys; empty for key-headers (docs/keys.md)",
			careful: true, fits: findsKeys, made: keySources,
		},
		&rule[[]string]{
			name: "key-methods", as: aList(), of: func(r *Rules) *[]string { return &r.KeyMethods },
			usage: "methods for which keys count; requests of others have none; empty for all", careful: true,
			limit: anyOfThem("methods in capitals, such as POST", isMethod), to: func(all []string, p *proxy.Rules) { p.KeyMethods = all },
		},
		&rule[bool]{
			name: "key-malformed", as: eitherOr("reject", "no-key"), of: func(r *Rules) *bool { return &r.LenientKey },
			idle: without("a source in the body in key", func(r *Rules) bool { return len(r.Key) == 0 }),
			usage: "what becomes of a request whose key may be in its body, which is malformed: reject (400) or no-key (it counts as " +
				"one without that key)",
			to: func(yes bool, p *proxy.Rules) { p.LenientKey = yes },
		},
	}
}

func findsKeys(r *Rules) (want string) {
	sources, err := operation.ParseSources(r.Key)
	if err != nil {
		return "sources of a known form: " + err.Error()
	}
	return fieldsOfKeys(sources.Headers())
}

func keySources(r *Rules, p *proxy.Rules) error {
	sources, err := operation.ParseSources(r.Key)
	if err != nil || sources == nil {
		return err
	}
	p.Key = sources
	return nil
}

// fieldsOfKey are the names of fields that keys are in.
func (r *Rules) fieldsOfKey() []string {
	if sources, err := operation.ParseSources(r.Key); err == nil && sources != nil {
		return sources.Headers()
	}
	return r.KeyHeaders
}
