// Package differential has servers of other people's read what the proxy
// forwards. Each must read exactly what the client meant. It has tests only.
package differential
