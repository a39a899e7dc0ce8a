package proxy_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/idemproxy/idemproxy/caller"
	"github.com/idemproxy/idemproxy/operation"
	"github.com/idemproxy/idemproxy/proxy"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
)

// fieldRig is a proxy whose backend's last request is to be looked at.
func fieldRig(t *testing.T, change ...func(*proxy.Config)) (*rig, func() map[string][]string) {
	t.Helper()
	var mu sync.Mutex
	var seen map[string][]string
	r := newRig(t, func(c backendtest.Conn, q *backendtest.Request) {
		mu.Lock()
		seen = q.Header
		mu.Unlock()
		backendtest.OK(c, q)
	}, change...)
	return r, func() map[string][]string {
		mu.Lock()
		defer mu.Unlock()
		return seen
	}
}

// What says where a request came from, or what it is for, ends here unless somebody
// says it who is trusted.
func TestFieldsOfOrigin(t *testing.T) {
	t.Parallel()
	fields := []string{
		"X-Forwarded-Port: 1", "X-Forwarded-Prefix: /a", "X-Forwarded-Server: s", "X-Forwarded-Ssl: on", "x-forwarded-scheme: https", "X-Forwarded: y",
		"X-Real-IP: 1.2.3.4", "X-Client-IP: 1.2.3.4", "True-Client-IP: 1.2.3.4", "X-Original-URL: /admin", "X-Rewrite-URL: /admin",
		"CF-Connecting-IP: 1.2.3.4", "CF-Connecting-IPv6: ::1", "Client-Cert: :AA==:", "Client-Cert-Chain: :AA==:", "Client-IP: 1.2.3.4",
		"Fastly-Client-IP: 1.2.3.4", "Fly-Client-IP: 1.2.3.4", "Forwarded-For: 1.2.3.4", "Front-End-Https: on", "X-AppEngine-User-IP: 1.2.3.4",
		"X-ARR-ClientCert: c", "X-ARR-SSL: s", "X-Azure-ClientIP: 1.2.3.4", "X-Azure-SocketIP: 1.2.3.4", "X-Client-Cert: c",
		"X-Cluster-Client-IP: 1.2.3.4", "X-Envoy-External-Address: 1.2.3.4", "X-Envoy-Original-Host: h", "X-Envoy-Original-Path: /admin",
		"X-Host: h", "X-HTTP-Host-Override: h", "X-Original-Forwarded-For: 1.2.3.4", "X-Original-Host: h", "X-Original-Method: PUT",
		"X-Original-Proto: https", "X-Original-URI: /admin", "X-ProxyUser-IP: 1.2.3.4", "X-Remote-Addr: 1.2.3.4", "X-Remote-IP: 1.2.3.4",
		"X-Scheme: https", "X-SSL-Client-Verify: SUCCESS", "X-URL-Scheme: https",
	}
	for _, trusted := range []bool{false, true} {
		r, seen := fieldRig(t, func(c *proxy.Config) {
			if trusted {
				c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
			}
		})
		for _, key := range []string{"", "k"} {
			r.post(key, "x", append(fields, "X-Forwards: 1", "X-Real: 2")...)
			for _, field := range fields {
				name, value, _ := strings.Cut(field, ": ")
				if got := strings.Join(canonical(seen(), name), ","); (got == value) != trusted || got != "" && !trusted {
					t.Errorf("trusted %v, key %q: %s is %q", trusted, key, name, got)
				}
			}
			if h := seen(); len(canonical(h, "X-Forwards")) != 1 || len(canonical(h, "X-Real")) != 1 {
				t.Errorf("others are gone: %v", h)
			}
		}
	}
}

func canonical(h map[string][]string, name string) (values []string) {
	for n, v := range h {
		if strings.EqualFold(n, name) {
			values = append(values, v...)
		}
	}
	return values
}

// A backend that takes underscores for dashes sees each field that this proxy writes,
// or goes by, once, whoever sends its twin.
func TestTwinsOfFields(t *testing.T) {
	t.Parallel()
	source, err := caller.ParseScope([]string{"header:X-Tenant-Id"})
	if err != nil {
		t.Fatal(err)
	}
	print, err := operation.ParseFingerprint([]string{"method", "target", "body", "header:X-Part-No"})
	if err != nil {
		t.Fatal(err)
	}
	r, seen := fieldRig(t, func(c *proxy.Config) {
		c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		c.BindHeaders, c.Scope, c.Fingerprint = []string{"X-Account-Id"}, source, print
	})
	twins := []string{
		"Idempotency_Attempt", "IDEMPOTENCY_KEY", "X_Idempotency_Key", "X-Idempotency_Key", "X_Forwarded_For", "X-Forwarded_For", "X_Forwarded_Port",
		"X_Real_IP", "X_Request_Id", "Content_Length", "Transfer_Encoding", "Content_Type", "X_Account_Id", "X_Tenant-Id", "X_Part_No", "X.Account.Id",
		"X_Original_Url", "x_http_method_override", "Max_Forwards", "max.forwards", "Accept_Encoding", "Access_Control_Request_Method",
		"Access-Control-Request_Headers", "CF_Connecting_IP", "Client_Cert", "X_SSL_Client_Verify", "Client_IP",
	}
	fields := []string{"X-Account-Id: a", "X-Tenant-Id: t", "X-Part-No: 1", "My_Own: 1", "X-HTTP-Method-Override: PUT"}
	for _, name := range twins {
		fields = append(fields, name+": 99")
	}
	r.post("k", "x", fields...)
	h := seen()
	for name, values := range h {
		if slices.Contains(values, "99") {
			t.Errorf("the backend sees %s: %v", name, values)
		}
	}
	for name, want := range map[string]string{
		"My_own": "[1]", "X-Account-Id": "[a]", "X-Tenant-Id": "[t]", "X-Part-No": "[1]", "Idempotency-Attempt": "[1]", "Idempotency-Key": "[k]",
		"X-Http-Method-Override": "[PUT]",
	} {
		if got := fmt.Sprint(canonical(h, name)); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

// Nobody can take away on the way to the backend what it is found by in logs, or what
// this proxy went by.
func TestWhatCannotBeNominated(t *testing.T) {
	t.Parallel()
	r, seen := fieldRig(t, func(c *proxy.Config) { c.BindHeaders = []string{"X-Account-Id"} })
	r.post("k", "x", "Connection: X-Request-Id, Traceparent, X-Account-Id, X-Hop", "X-Request-Id: r", "Traceparent: t", "X-Account-Id: a", "X-Hop: 1")
	for name, want := range map[string]string{"X-Request-Id": "[r]", "Traceparent": "[t]", "X-Account-Id": "[a]", "X-Hop": "[]"} {
		if got := fmt.Sprint(canonical(seen(), name)); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}
