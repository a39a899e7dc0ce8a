// Package operation says which operation a request asks for: where its key is
// (key.go), what must not change between two uses of it (fingerprint.go, body.go),
// by which settings that was hashed (recipe.go), what a payload without a key is
// called (payload.go), and where a redirected one goes on (place.go).
package operation
