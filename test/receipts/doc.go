// Package receipts holds the examples of docs/examples/receipts to the protocol of
// receipts, over HTTP and with real databases.
package receipts
