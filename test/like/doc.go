// Package like compares the proxy with nginx: the same requests and responses
// through either, and what backend and client then see. It has tests only.
package like
