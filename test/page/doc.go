// Package page tests the admin page in a real browser. It has tests only.
package page
