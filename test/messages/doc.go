// Package messages makes up requests, answers and configurations, and sends the ones
// through proxies of the others. What it checks holds for all messages; it knows of no
// fault in particular. It has tests only.
package messages
