// Package sim runs whole proxies, their stores, a backend, clients and operators in one
// bubble of testing/synctest: on a clock that moves only when everybody waits, and on a
// network that delivers one packet at a time, when the simulation says so. A seed decides
// what is done, in which order packets arrive, and what breaks. So an hour of a proxy's life
// takes some milliseconds, a run can be repeated, and each thing that happens can be judged
// exactly: nothing happens meanwhile.
package sim
