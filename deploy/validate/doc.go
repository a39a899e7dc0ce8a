// Package validate holds the Kubernetes manifests and the Helm chart against the types
// of Kubernetes, Helm's own renderer and the settings of the proxy. It is a module of
// its own, since these libraries are larger than the proxy: no binary needs them.
package validate
