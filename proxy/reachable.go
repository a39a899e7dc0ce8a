package proxy

import (
	"errors"
	"fmt"
	"strings"

	"github.com/idemproxy/idemproxy/message"
)

// errNeverTaken is a route that is for no request at all.
var errNeverTaken = errors.New("matches no request")

// reachable says what to write instead of a pattern that no request can match. It asks
// the functions that requests go through. Plans of earlier releases may have such
// patterns, so check takes them.
func (m *Match) reachable(allowAmbiguous bool) error {
	if err := m.reachableHost(); err != nil {
		return err
	}
	if err := m.reachablePath(allowAmbiguous); err != nil {
		return err
	}
	for _, method := range m.Methods {
		switch {
		case method == "CONNECT":
			return fmt.Errorf("method %q %w: this is no forward proxy, and answers it with 501", method, errNeverTaken)
		case !isMethod(method):
			return fmt.Errorf("method %q %w: want one method, such as POST", method, errNeverTaken)
		}
	}
	return nil
}

func (m *Match) reachablePath(allowAmbiguous bool) error {
	pattern, wild := strings.CutSuffix(m.Path, "*")
	if pattern == "" {
		return nil
	}
	if decoded := string(normalized([]byte(pattern))); decoded != pattern {
		if wild {
			decoded += "*"
		}
		return fmt.Errorf("path %q %w: requests are compared decoded, without empty and dot segments; write %q",
			m.Path, errNeverTaken, decoded)
	}
	// A request has these encoded, or as they are: either way its target is ambiguous.
	odd := func(c rune) bool { return c < ' ' || c == 0x7f || strings.ContainsRune(`\;%`, c) }
	if !allowAmbiguous && strings.ContainsFunc(pattern, odd) {
		return fmt.Errorf(`path %q %w unless the route has ambiguous_paths: allow, since servers read \ ; %% and control characters `+
			"in different ways", m.Path, errNeverTaken)
	}
	return nil
}

func (m *Match) reachableHost() error {
	name := strings.TrimPrefix(m.Host, "*.")
	canonical := message.HostName(message.CanonicalHost(nil, []byte(name)))
	switch {
	case m.Host == "":
		return nil
	case !message.IsAuthority([]byte(name)), len(canonical) == 0:
		return fmt.Errorf("host %q %w: want a name as clients send it, such as api.example.com (others than ASCII as xn--...)",
			m.Host, errNeverTaken)
	case strings.Count(name, ":") > 1 && name[0] != '[':
		return fmt.Errorf("host %q %w: write %q", m.Host, errNeverTaken, "["+name+"]")
	case !message.EqualFold(canonical, strings.TrimSuffix(name, ".")):
		return fmt.Errorf("host %q %w: requests are compared without their port; write %q",
			m.Host, errNeverTaken, strings.TrimSuffix(m.Host, name)+string(canonical))
	}
	return nil
}

// isMethod: RFC 9110 section 9.1 has a token.
func isMethod(method string) bool {
	return !strings.ContainsFunc(method, func(c rune) bool {
		return c <= ' ' || c > '~' || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, c)
	})
}
