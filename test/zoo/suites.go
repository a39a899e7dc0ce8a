package main

import "strings"

// suite is tests that are run together.
type suite struct {
	dir       string
	pattern   string
	generator bool
	processes bool // the tests start the proxy as a process: only that is built with the fault
	stops     bool // likewise, and the proxy stops at named places: see TestFailpoints
}

// generators make up operations, orders and faults, and know of no fault in particular.
func generators() map[string]suite {
	of := func(dir, pattern string) suite {
		return suite{dir: dir, pattern: pattern, generator: true, processes: dir == "test"}
	}
	failpoints := of("test", "^TestFailpoints$")
	failpoints.stops = true
	return map[string]suite{
		"histories": of("test/history", "^(TestEmbedded|TestRedis|TestRedisUnderFaults|TestPostgres|TestPostgresUnderFaults)$"),
		"lies":      of("test/history", "^TestLyingRedis(UnderAnEngine)?$"),
		"replaced":  of("test/history", "^TestRedis(Replicated)?Failovers$"),
		"standby":   of("test/history", "^TestPostgresStandby$"),
		"shards":    of("test/history", "^TestClusterThatStandsStillInPart$"),
		"losses":    of("test/history", "^(TestRedisLosses|TestPostgresLosses)$"),
		"clients":   of("test", "^TestClientHistories$/^(embedded|redis)$"), // PostgreSQL takes longer to set up
		"faults":    of("test", "^TestFaults$"),
		"failovers": of("test", "^TestFailovers$"),
		"same":      of("test", "^TestSameInEveryConfiguration$"),
		"receipts":  of("test", "^TestReceipts$"),
		"kills":     of("test", "^TestKillLoopKeepsEveryAnswer$"),
		"sim":       of("test/sim", "^TestSimulation$"),
		"reloads":   of("app", "^TestReloadsHaveAnOrder$"),
		"messages":  of("test/messages", "^(TestMessages|TestPermits|TestReceiptAnswers)$"),
		"answers":   of("rstore", "^TestAnswersThatAreReadInAnyOrder$"),
		"refusals":  of("rstore", "^TestRefusals$"),
		"trust":     of("token", "^TestTrustOverTime$"),
		"doubts":    of("proxy", "^TestSettlerInTrouble$"),
		"damage":    of("estore", "^TestDamagedFiles$"),
		"lives":     of("estore", "^TestP2LivesOfAStore$"),
		"crashes":   of("estore", "^TestP2(EveryCrashPoint|EverySyncThatFails|EveryWriteThatFindsNoSpace|CrashLoses.*)$"),
		"readers":   of("test/differential", ""),
		"contract":  of("", "^TestContract$"), // of the store that the fault names
		"fuzz":      of("", ""),               // likewise

		"failpoints": failpoints,
	}
}

// suiteOf is what a finder names. contract and fuzz have a directory in their pattern:
// contract:rstore, fuzz:proxy.FuzzFraming.
func suiteOf(f finder) suite {
	s, is := generators()[f.name]
	switch {
	case !is && f.pattern == "":
		return suite{dir: f.name, pattern: "."}
	case !is:
		return suite{dir: f.name, pattern: "^(" + f.pattern + ")$"}
	case f.name == "contract":
		s.dir = f.pattern
	case f.name == "fuzz":
		s.dir, s.pattern = cutLast(f.pattern)
	case f.pattern != "":
		s.pattern = "^(" + f.pattern + ")$"
	}
	return s
}

// cutLast cuts "proxy.FuzzFraming" at its last dot.
func cutLast(text string) (dir, name string) {
	i := strings.LastIndexByte(text, '.')
	return text[:max(i, 0)], text[i+1:]
}
