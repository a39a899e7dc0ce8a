// Package sdk runs SDKs of others against the proxy, as their users have them: what
// docs/presets.md says of stripe and of aws-client-token. It is a module of its own, so
// that no SDK is among the product's dependencies.
//
// Run it with: cd test/sdk && go test ./...
package sdk
