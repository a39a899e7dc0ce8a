package app

// LogEvent is a kind of line in the log, by the word in its field event.
type LogEvent struct {
	Name  string
	Level string
	// Means is what has happened; Fields are those that such a line has besides level, time,
	// message and event, and error where something failed.
	Means  string
	Fields string
}

// LogEvents are all of them, by what they are about. A test holds the list to the code, and
// prints docs/reference/events.md from it.
func LogEvents() []LogEvent { //nolint:funlen // a table
	const (
		key   = "key"
		asked = key + ", route, method, path, request_id"
	)
	return []LogEvent{
		{
			"request", "info, warn", "a request was answered: one line each; warn where the proxy or the backend failed",
			"outcome, status, method, path, remote, client, route, request_id, trace_id, key, attempt, differs, would, would_end, " +
				"ms, waited_ms, store_ms, backend_ms, ending, settlement, receipt",
		},
		{
			"async_ended", "info, warn",
			"a request that was answered with 202 (respond_async) was executed, or failed; the fields are those of request, with the " +
				"same request_id",
			"as request",
		},
		{
			"stream_ended", "info, warn",
			"a streamed response (stream_responses) has ended; warn if it was incomplete. joined is the number of " +
				"clients besides the first",
			key + ", request_id, attempt, ending, bytes, kept, joined, ms",
		},
		{"response_cut", "warn", "the backend broke off a response after the log line of its request was written", key},
		{"key_held", "warn", "the outcome is unknown: the key is held until somebody says what happened", asked},
		{"key_resolved", "info", "the backend said what happened to an unknown key", key + ", as"},
		{
			"receipts_fail", "warn",
			"an endpoint for receipts does not answer; keys in doubt stay held. Logged once for each kind of error (8 at most), " +
				"until it answers again",
			"receipts",
		},
		{
			"receipts_answer", "info", "the endpoint for receipts answers again: failures is how often it did not, last_error why it " +
				"did not the last time", "receipts, failures, last_error",
		},
		{
			"settler_full", "warn",
			"this process asks about 10,000 attempts in doubt, which is the limit; further ones stay held in the store", "",
		},
		{"settler_has_room", "info", "there is room again: the process scans the store for the attempts that it left there", ""},
		{
			"unsettled_left", "warn", "the process ends while attempts are in doubt: their keys stay held in the store, " +
				"where the next scan finds them",
			"attempts",
		},
		{
			"look_failed", "warn", "a scan of the store for attempts in doubt failed, or met a record that it could not read. " +
				"Logged once, until a scan works again", "ms, found",
		},
		{"look_done", "info", "a scan of the store works again, or has found attempts in doubt", "ms, found"},
		{
			"operator", "warn", "an operator resolved, released or purged a key, or tried to. error is there if it was not done. " +
				"action is retry or complete (both: resolve), release or purge", key + ", action, remote",
		},
		{"backup", "warn", "somebody asked for a backup of the store. error is there if it failed", "remote, files"},
		{
			"lease_lost", "error", "the proxy has lost the lease of a key while its operation was executed: another request may be " +
				"executing the same operation, or the record is gone and the next request will. Its response is " +
				"not stored. at is the call of the store that found it", key + ", attempt, at",
		},
		{
			"ending_deferred", "warn", "the store could not record how a request ended. The proxy tries it again until the store takes it",
			asked + ", operation",
		},
		{
			"ending_recorded", "info", "after ending_deferred: how the request ended is recorded. ending says how. If it is " +
				"lost (the level is warn), the lease was lost meanwhile, and the record is another attempt's or gone", asked + ", ending",
		},
		{
			"ending_dropped", "error", "the proxy has given up recording how a request ended. If the response was not stored or the " +
				"key not held, a retry may be executed again. If the key was not released, retries wait until the lease ends",
			asked + ", operation",
		},

		{
			"store_lost", "error", "the store does not answer. Until it does, requests with keys are refused, or (fail_open) " +
				"forwarded without protection", "",
		},
		{"store_back", "warn", "the store answers again. empty says whether its records are gone", "lost_ms, empty"},
		{
			"store_emptied", "error", "the store has lost its records (it was flushed, for example). Retries of the requests that " +
				"were in it are executed again", "",
		},
		{
			"count_failed", "warn", "the keys with an unknown outcome could not be counted (count_every). idemproxy_unknown_keys " +
				"keeps its value. Logged once, until a count works again", "",
		},
		{"store_connected", "info", "Redis, PostgreSQL: the proxy is connected to a primary and uses it", "server, mode"},
		{
			"store_unreachable", "warn", "Redis, PostgreSQL: the proxy cannot connect to a primary, or the primary cannot be used. It " +
				"tries again. While this goes on, the event comes ever more seldom, down to once a minute", "",
		},
		{
			"store_left", "warn", "Redis: the server that the proxy used is not the primary any more, or was started anew. The proxy " +
				"looks for the primary", "server",
		},
		{
			"store_failover", "warn", "Redis: a Sentinel says that a failover has begun. The proxy sends nothing to the old primary, " +
				"and waits for the new one", "server",
		},
		{
			"store_asserted", "warn", "Redis: after a failover, the proxy has compared its journal with the new primary. The fields " +
				"count the records: same (the new primary had it), restored (it was missing), advanced (it was of an older state), " +
				"conflicts (store_conflict), failed (store_unasserted)",
			"server, took, same, restored, advanced, conflicts, failed",
		},
		{
			"store_unasserted", "warn, error", "Redis: after a failover, the proxy could not write to the new primary what the old " +
				"one had acknowledged. warn: all of it, and the proxy tries again. error: one record, which was refused three times",
			"record",
		},
		{
			"store_conflict", "error", "Redis: a failover lost a record, and another request acquired the key before the proxy could " +
				"write the record again. The operation may be executed twice", "record",
		},
		{
			"store_version", "warn", "Redis: this release of Redis has a fault: responses stay in the proxy's memory for a shorter " +
				"time than with Redis 7.0.5 or later", "server, version",
		},
		{
			"store_setting", "warn", "Redis, PostgreSQL: the server has a setting with which records can be lost. message says how",
			"server, setting, value",
		},
		{
			"store_unchecked", "info", "Redis, PostgreSQL: the proxy is not allowed to read the settings of the server. So it cannot " +
				"warn of settings with which records can be lost", "server",
		},
		{
			"store_clock", "warn", "Redis: the clock of a replica differs from its primary's by more than one second (ahead; " +
				"negative: it is behind). After a failover to this replica, leases end too early or too late by this much",
			"server, replica, ahead",
		},
		{
			"store_migrated", "info", "PostgreSQL: the proxy has created its tables, or changed them to the version of this release. " +
				"before is the version that was there (0: none)", "schema, before, version",
		},
		{
			"store_heard", "debug", "PostgreSQL: the server tells the proxy of changes of records. The proxy can answer replays from " +
				"its memory",
			"server",
		},
		{
			"store_unheard", "warn", "PostgreSQL: the server does not tell the proxy of changes of records any more. Until it does, " +
				"the proxy asks the server for every replay", "",
		},
		{"sentinel_heard", "debug", "Redis: the proxy is connected to a Sentinel, which tells it of failovers", "sentinel"},
		{
			"sentinel_unheard", "debug", "Redis: the proxy lost the connection to a Sentinel, or cannot connect. It tries again",
			"sentinel",
		},
		{
			"disk_space", "warn", "embedded: the disk has less free space than the store needs (low is true), or has enough again " +
				"(low is false). While it is low, requests that would be executed are refused", "low, free_bytes, min_free_bytes",
		},
		{
			"clock_jump", "warn", "embedded: at the start, the wall clock is far ahead of the last time that the store saved. The store " +
				"advances its own clock by advance only, so it keeps records for longer. If the wall clock is wrong, correct it and " +
				"restart the proxy within doubted_for",
			"saved, wall, advance, doubted_for",
		},
		{
			"sweep_failed", "error, warn, debug", "the store could not delete records that have expired (embedded: error; PostgreSQL: " +
				"debug, and warn where it lasts). It tries again", "",
		},
		{"compaction_failed", "error", "embedded: the store could not give the disk space of deleted records back", ""},
		{
			"store_engine_error", "error", "embedded: the storage engine (Pebble) reports an error. message has it. If it goes on, " +
				"there are ever fewer lines, down to one a minute; errors says how many there were since the line before", "errors",
		},
		{
			"store_engine_failed", "error", "embedded: the storage engine cannot write to the disk any more. The process ends: after " +
				"a restart it knows what is on the disk", "",
		},
		{"close_failed", "error", "the store could not be closed without an error when the proxy ended", ""},

		{
			"names_checked", "info", "the proxy can find all records in the store with its settings, and begins to accept requests " +
				"with keys", "",
		},
		{
			"names_unchecked", "warn", "the proxy could not read the plans in the store. It refuses requests with keys until it can " +
				"read them. If it only could not find out whether there are records of an early release, it assumes that there are, and " +
				"serves", "",
		},
		{
			"names_not_entered", "warn", "the proxy could not write its plan into the store again, which keeps the plan from " +
				"expiring. It tries again, long before the plan expires", "",
		},
		{
			"names_not_struck", "warn", "the proxy could not delete a plan from the store that it does not need any more. This does " +
				"no harm to records", "entry",
		},
		{
			"orphans", "error", "the store has records that the proxy cannot find with these settings (for example, because scope " +
				"was changed). The proxy refuses requests with keys until the settings are changed. error says which records, " +
				"and which setting helps", "",
		},
		{
			"orphans_accepted", "warn", "the proxy does not find some records any more, and accept_orphans allows that. Retries of " +
				"their requests are executed again", "",
		},

		{
			"backend_down", "warn", "the proxy leaves a backend out: it sends it no requests until its health check, or a connection " +
				"to it, works again. error says why", "upstream, backend",
		},
		{"backend_up", "info", "the proxy sends requests to this backend again", "upstream, backend"},
		{
			"resolve_failed", "warn", "the name of a backend could not be resolved. The proxy keeps the addresses that it has",
			"upstream, backend",
		},
		{"jwks_unreachable", "warn", "the proxy could not fetch a key set (jwks) again. It keeps the keys that it has", ""},
		{"spans_lost", "warn", "the proxy could not send spans to otlp. These spans are lost", ""},

		{"started", "info", "the proxy has started and accepts requests", "version, listen, backend, store, admin, demo"},
		{
			"reloaded", "info", "new requests use the new settings. Without fields: only what the proxy knows of old records has changed",
			"routes, upstreams",
		},
		{"reload_failed", "error", "the new settings cannot be used. The proxy continues with the settings that it has", ""},
		{"tls_reloaded", "info", "new connections of clients get the new certificate", ""},
		{
			"tls_reload_failed", "error", "the new certificate, key or client CA cannot be used. The proxy continues with those that " +
				"it has", "",
		},
		{
			"setting_doubtful", "warn", "a setting has no effect, or an effect that you perhaps do not want. error says which setting. " +
				"`idemproxy check` says the same", "",
		},
		{
			"few_files", "info, warn", "the limit of open files (`ulimit -n`) is lower than what max_clients and max_conns may need; " +
				"want is what they may need. info: max_clients is not set, and is as many as there is room for", "limit, want, max_clients",
		},
		{
			"connection_refused", "warn", "the proxy closed connections before it read a request. At most one line a second for each " +
				"reason; connections is how many since the line before",
			"reason, remote, connections, request_id",
		},
		{
			"accept_failed", "error", "the proxy cannot accept connections, because the process has no file descriptors left, for " +
				"example. It tries again; clients can connect when other connections end", "",
		},
		{
			"draining", "info", "the proxy was asked to stop. It is not ready any more, and finishes the requests that it has. delay " +
				"and at_most are drain_delay and drain_timeout; under_way is the number of requests", "delay, at_most, under_way",
		},
		{
			"log_dropped", "error", "the reader of the log stood still for longer than a second, and more lines came than the proxy " +
				"keeps (1 MiB). The lines that are missing came just before this one", "lines",
		},
		{
			"stopped", "info, error", "the last line of the log. error: some requests were cut (cut), or the store did not record how " +
				"some ended (dropped)", "dropped, cut, late",
		},
	}
}
