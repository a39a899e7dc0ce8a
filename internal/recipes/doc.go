// Package recipes keeps what a process has read of the recipes in a store's registry: how
// other processes, and earlier settings, compare requests and made records.
package recipes
