// Package fakeredis is a Redis in memory for simulations: as much of it as package rstore
// uses, with real Lua, and as exact as tests against a real server show it to be.
//
// It does no input or output but over the connections that it is given, and has no clock but
// package time's. So it works in a bubble of testing/synctest, where all of its goroutines
// are durably blocked while nobody asks anything.
//
// It has no replicas, no Cluster, no transactions, and one database.
package fakeredis
