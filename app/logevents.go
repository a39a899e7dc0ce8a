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
		{"look_failed", "warn", "a scan of the store for attempts in doubt failed. Logged once, until a scan works again", "ms, found"},
		{"look_done", "info", "a scan of the store works again, or has found attempts in doubt", "ms, found"},
		{"operator", "warn", "an operator changed a key, or tried to", key + ", action, remote"},
		{"backup", "warn", "somebody asked for a backup of the store; error says if it failed", "remote, files"},
		{"lease_lost", "error", "somebody else may be executing the same operation", key + ", attempt, at"},
		{
			"ending_deferred", "warn", "the store could not take the ending of a request; the proxy offers it again",
			asked + ", operation",
		},
		{
			"ending_dropped", "error", "the store never took the ending: a retry may be executed again, or waits until the lease ends",
			asked + ", operation",
		},

		{"store_lost", "error", "the store does not answer", ""},
		{"store_back", "warn", "the store answers again", "lost_ms, empty: its records are gone"},
		{"store_emptied", "error", "the store's records are gone: retries of requests that were in it are executed again", ""},
		{"count_failed", "warn", "unknown keys could not be counted (count_every)", ""},
		{"store_connected", "info", "Redis, PostgreSQL: connected to a primary", "server, mode"},
		{"store_unreachable", "warn", "Redis, PostgreSQL: no primary can be reached, or used", ""},
		{"store_left", "warn", "Redis: the server is not the primary any more", "server"},
		{"store_failover", "warn", "Redis: a failover has begun", "server"},
		{
			"store_asserted", "warn", "Redis: the proxy has restored on the new primary the records that the old one had acknowledged",
			"server, took, same, restored, advanced, conflicts, failed",
		},
		{
			"store_unasserted", "warn, error", "Redis: the proxy could not restore the records, or one record, on the new primary",
			"record",
		},
		{
			"store_conflict", "error",
			"Redis: before the record was restored, another request had acquired the key: the operation may be executed twice", "record",
		},
		{"store_version", "warn", "Redis: this release of Redis has a fault that concerns the proxy", "server, version"},
		{"store_setting", "warn", "Redis, PostgreSQL: with this setting records can be lost", "server, setting, value"},
		{"store_unchecked", "info", "Redis, PostgreSQL: the proxy may not read the settings that concern durability", "server"},
		{"store_clock", "warn", "Redis: a replica's clock differs from its primary's", "server, replica, ahead"},
		{"store_migrated", "info", "PostgreSQL: the tables were made, or brought up to date", "schema, before, version"},
		{"store_heard", "debug", "PostgreSQL: notifications arrive: replays may come from the local cache", "server"},
		{"store_unheard", "warn", "PostgreSQL: notifications do not arrive: no replay comes from the local cache", ""},
		{"sentinel_heard", "debug", "Redis: listening to a Sentinel", "sentinel"},
		{"sentinel_unheard", "debug", "Redis: a Sentinel cannot be listened to", "sentinel"},
		{"disk_space", "warn", "embedded: the disk is nearly full, or has space again", "low, free_bytes, min_free_bytes"},
		{
			"clock_jump", "warn", "embedded: the wall clock is far ahead of the store's last reading",
			"saved, wall, advance, doubted_for",
		},
		{"sweep_failed", "error, debug", "embedded, PostgreSQL: expired records were not removed", ""},
		{"compaction_failed", "error", "embedded: the store could not free disk space", ""},
		{"store_engine_error", "error", "embedded: the storage engine reports an error", ""},
		{"store_engine_failed", "error", "embedded: the storage engine cannot go on; the process ends", ""},
		{"close_failed", "error", "the store did not close cleanly", ""},

		{"names_checked", "info", "these settings find the store's records: the proxy serves requests with keys", ""},
		{
			"names_unchecked", "warn",
			"the proxy has not been able to read the plans in the store: it refuses requests with keys until it has", "",
		},
		{"names_not_entered", "warn", "the proxy could not write its plan into the store; it tries again", ""},
		{"names_not_struck", "warn", "the proxy could not delete a plan or recipe from the store", "entry"},
		{"orphans", "error", "with these settings some records would not be found: the proxy refuses requests with keys", ""},
		{"orphans_accepted", "warn", "records are not found any more, as accept_orphans says", ""},

		{"backend_down", "warn", "a backend gets no requests until it can be reached", "upstream, backend"},
		{"backend_up", "info", "it gets requests again", "upstream, backend"},
		{"resolve_failed", "warn", "a backend's name could not be resolved; its addresses stay", "upstream, backend"},
		{"jwks_unreachable", "warn", "a key set was not fetched anew; its keys stay", ""},
		{"spans_lost", "warn", "spans could not be sent", ""},

		{"started", "info", "ready for requests", "version, listen, backend, store, admin, demo"},
		{"reloaded", "info", "requests from now on are treated by the new settings", "routes, upstreams"},
		{"reload_failed", "error", "the settings cannot be used, and stay as they were", ""},
		{"tls_reloaded", "info", "new connections get the new certificate", ""},
		{"tls_reload_failed", "error", "the certificates cannot be used, and stay as they were", ""},
		{"setting_doubtful", "warn", "a setting does nothing, or what was perhaps not meant; `idemproxy check` says the same", ""},
		{"few_files", "warn", "file descriptors may be used up before max_clients is reached", "limit, max_clients"},
		{
			"connection_refused", "warn", "connections were closed before a request was read: one line a second and reason at most",
			"reason, remote, connections, request_id",
		},
		{"accept_failed", "error", "no client can connect until connections end", ""},
		{"draining", "info", "not ready any more; requests under way are finished", "delay, at_most, under_way"},
		{"stopped", "info, error", "the last line: error if requests were not finished, or not stored", "dropped, cut, late"},
	}
}
