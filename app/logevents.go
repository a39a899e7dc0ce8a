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
		{"response_cut", "warn", "the backend broke a response off after the request's line was written", key},
		{"key_held", "warn", "the outcome is unknown: the key is held until somebody says what happened", asked},
		{"key_resolved", "info", "the backend said what had become of an unknown key", key + ", as"},
		{
			"receipts_fail", "warn",
			"an endpoint for receipts does not say what became of an attempt: once, until it answers again; keys in doubt stay held",
			"receipts",
		},
		{"receipts_answer", "info", "it says so again", "receipts"},
		{
			"settler_full", "warn",
			"10,000 attempts are in doubt here, as many as are asked about at a time; further ones stay held in the store", "",
		},
		{"settler_has_room", "info", "the store is looked through for those", ""},
		{
			"unsettled_left", "warn", "the process ends: keys of attempts in doubt stay held in the store, and are found there again",
			"attempts",
		},
		{"look_failed", "warn", "the store could not be looked through for attempts in doubt: once, until it can be", "ms, found"},
		{"look_done", "info", "it can be again, or attempts in doubt were found", "ms, found"},
		{"operator", "warn", "an operator changed a key, or tried to", key + ", action, remote"},
		{"lease_lost", "error", "somebody else may be executing the same operation", key + ", attempt, at"},
		{"ending_deferred", "warn", "the store could not take what became of a request; it is offered again", asked + ", operation"},
		{
			"ending_dropped", "error", "the store never took it: a retry may execute again, or waits for the lease to lapse",
			asked + ", operation",
		},

		{"store_lost", "error", "the store does not answer", ""},
		{"store_back", "warn", "it answers again", "lost_ms, empty: its records are gone"},
		{"store_emptied", "error", "the store's records are gone: retries of what was in it execute again", ""},
		{"count_failed", "warn", "unknown keys could not be counted (count_every)", ""},
		{"store_connected", "info", "Redis: connected to a primary", "server, mode"},
		{"store_unreachable", "warn", "Redis: no primary can be reached", ""},
		{"store_left", "warn", "Redis: the server is not the primary any more", "server"},
		{"store_failover", "warn", "Redis: a failover has begun", "server"},
		{
			"store_asserted", "warn", "Redis: the new primary was told what the one before had acknowledged",
			"server, took, same, restored, advanced, conflicts, failed",
		},
		{"store_unasserted", "warn, error", "Redis: that could not be told, of all or of one record", "record"},
		{"store_conflict", "error", "Redis: the key was taken again before that: it may execute twice", "record"},
		{"store_version", "warn", "Redis: a release with a fault that matters here", "server, version"},
		{"store_setting", "warn", "Redis: a setting by which records can be lost", "server, setting, value"},
		{"store_unchecked", "info", "Redis: it does not say how it keeps records", "server"},
		{"store_clock", "warn", "Redis: a replica's clock differs from its primary's", "server, replica, ahead"},
		{"sentinel_heard", "debug", "Redis: listening to a Sentinel", "sentinel"},
		{"sentinel_unheard", "debug", "Redis: a Sentinel cannot be listened to", "sentinel"},
		{"disk_space", "warn", "embedded: space on the disk ends, or is there again", "low, free_bytes, min_free_bytes"},
		{
			"clock_jump", "warn", "embedded: the wall clock is far ahead of the store's last reading",
			"saved, wall, advance, doubted_for",
		},
		{"sweep_failed", "error", "embedded: expired records were not removed", ""},
		{"compaction_failed", "error", "embedded: space was not given back", ""},
		{"store_engine_error", "error", "embedded: the storage engine reports an error", ""},
		{"store_engine_failed", "error", "embedded: the storage engine cannot go on; the process ends", ""},
		{"close_failed", "error", "the store did not close cleanly", ""},

		{"names_checked", "info", "the store's records are found by these settings: requests with keys are served", ""},
		{"names_unchecked", "warn", "the store could not be asked yet: requests with keys are refused until it is", ""},
		{"names_not_entered", "warn", "the store could not be told how records are named; tried again", ""},
		{"names_not_struck", "warn", "an entry of the store's registry stays", "entry"},
		{"orphans", "error", "by these settings records would not be found: requests with keys are refused", ""},
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
