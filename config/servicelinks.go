package config

import "regexp"

// Kubernetes sets these in each container for every Service of the same namespace
// (its documentation: "Service", "Environment variables"). For a Service named
// idemproxy, or idemproxy-something, their names start as those of settings do.
var (
	serviceLinkName  = regexp.MustCompile(`_SERVICE_(HOST|PORT(_[A-Z0-9_]+)?)$|_PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?$`)
	serviceLinkPort  = regexp.MustCompile(`_PORT$`)
	serviceLinkValue = regexp.MustCompile(`^(tcp|udp|sctp)://[^/]+:[0-9]+$`)
)

// isServiceLink says whether an environment variable whose name starts with EnvPrefix
// is one that Kubernetes sets for a Service. It is nobody's setting, and must not stop
// a start. NAME_PORT alone could be a misspelt setting, so that its value decides.
func isServiceLink(name, value string) bool {
	return serviceLinkName.MatchString(name) ||
		serviceLinkPort.MatchString(name) && serviceLinkValue.MatchString(value)
}
