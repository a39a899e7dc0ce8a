/*
 * One key of IdemProxy: proxies that acquire, execute and end, a store that
 * answers by the transition table, and a network, a clock and crashes that do
 * their worst. docs/model.md says what is covered and what is not.
 *
 * The test beside this file writes table.pml from idem.Transitions, so the model
 * cannot drift from the code, and runs every configuration:
 *
 *   HOLD      on_ambiguous: hold instead of release
 *   LOSS      the store comes back once without its data
 *   BUG_...   one mistake, which must be found
 */
#include "table.pml"  /* states, events, verdicts, transition() */

#ifdef HOLD
#define HOLDING true
#else
#define HOLDING false
#endif
#ifdef BUG_OWN_CLOCK
#define OWN_CLOCK true
#else
#define OWN_CLOCK false
#endif
#define TOKENS (PROXIES * ATTEMPTS)
#define NOBODY 255
#define NO_CALL 255
#define NO_REPLY 255

/* The store's record. lapsed: its clock has passed the lease. */
byte state = ABSENT;
byte owner = NOBODY;
bool lapsed;
byte response = NOBODY;         /* whose execution it is of */

/* The network. What was sent once may arrive at any later time and any number of
 * times; only the answer to the call that its sender is waiting for is heard,
 * and it may get lost. */
bool was[TOKENS * EVENTS];      /* sent at some time */
byte call[TOKENS] = NO_CALL;    /* which event the caller waits for */
byte reply[TOKENS] = NO_REPLY;
byte replied[TOKENS] = NOBODY;  /* the response that came with it */

/* Time. fresh: the proxy's own monotonic clock says that less than a heartbeat
 * has passed since it sent its last call. anchored: the store has granted that
 * call, so the lease cannot have lapsed before fresh ends: both clocks measure
 * the same time, the proxy from an earlier moment and to an earlier end. */
bool fresh[TOKENS], anchored[TOKENS];

/* What is to be proved about; nothing above reads it. */
byte lastGrant = NOBODY;        /* to whom the store last gave the lease */
bool charged;                   /* an execution since the last reason for another one */
byte told = NOBODY;             /* the response that a client was given as kept */
byte sent[TOKENS];              /* executions under each token */
byte losses, purges, retries;

hidden byte from, to, who, verdict;

inline another() { charged = false; told = NOBODY }

/* What the store does with an event of token t: one atomic step, as a script or
 * a batch is. */
inline handle(t, event) {
    who = (owner == t -> HOLDER : STRANGER);
#ifdef BUG_NO_OWNER
    who = (event == ACQUIRE -> who : HOLDER);
#endif
    from = state;
    if
    :: state == IN_PROGRESS && lapsed ->
#if defined(HOLD) && !defined(BUG_LAPSE_FREES)
        from = UNKNOWN
#else
        from = LAPSED
#endif
    :: else
    fi;
    transition(from, event, who);
    if
    :: verdict == V_ACQUIRED ->
        if
        :: from == LAPSED ->
#ifndef HOLD
            another()           /* lapsing frees the key: the operator's choice */
#else
            skip
#endif
        :: else
        fi;
        owner = t; lapsed = false; lastGrant = t
    :: verdict == V_YOURS -> lapsed = false; lastGrant = t
    :: verdict == V_OK ->
        /* No overwrite by a stale owner: nobody else was given the key since. */
        assert(lastGrant == t || from == to);
        if
        :: event == RENEW -> lapsed = false
        :: event == COMPLETE && from != COMPLETED -> response = t
        :: event == RELEASE && from != ABSENT && sent[t] > 0 ->
#ifdef HOLD
            assert(false)       /* nothing that may have executed is freed */
#else
            another()
#endif
        :: else
        fi
    :: else
    fi;
    state = to
}

#define GRANTED (verdict == V_ACQUIRED || verdict == V_YOURS || verdict == V_OK)

/* An event arrives without an answer that anybody hears: a late or second copy,
 * or the answer got lost. */
#define STRAY(t, event) d_step { was[t * EVENTS + event] -> handle(t, event) }

/* An event arrives, and its answer does too. */
#define CURRENT(t, event) d_step { call[t] == event && reply[t] == NO_REPLY -> \
        handle(t, event); reply[t] = verdict; replied[t] = response; \
        anchored[t] = fresh[t] && GRANTED }

#define PAUSE(t) d_step { fresh[t] -> fresh[t] = false; anchored[t] = false }

proctype network() {
end:
    do
    DELIVERIES                  /* of table.pml: STRAY and CURRENT of every token and event */
    od
}

/* The passing of time, and other misfortunes. */
proctype world() {
end:
    do
    PAUSES                      /* of table.pml: PAUSE of every token */
    :: d_step { state == IN_PROGRESS && !lapsed && (OWN_CLOCK || !anchored[owner]) -> lapsed = true }
#ifdef LOSS
    :: d_step { losses == 0 && (state != ABSENT || owner != NOBODY) ->
        losses++; state = ABSENT; owner = NOBODY; lapsed = false; response = NOBODY; another() }
#endif
    :: d_step { state == COMPLETED && purges == 0 ->   /* the end of retention, or an operator */
        purges++; state = ABSENT; owner = NOBODY; response = NOBODY; another() }
    :: d_step { retries == 0 && (state == UNKNOWN || HOLDING && state == IN_PROGRESS && lapsed) ->
                                                        /* an operator: it may run again */
        retries++; state = ABSENT; lapsed = false; another() }
    od
}

inline tell(event) { was[t * EVENTS + event] = true }

inline ask(event) {
    d_step { tell(event); call[t] = event; reply[t] = NO_REPLY; replied[t] = NOBODY; fresh[t] = true; anchored[t] = false }
}

/* hear leaves v: the answer, or NO_REPLY if none came in time. */
inline hear() {
    d_step { v = reply[t]; r = replied[t]; call[t] = NO_CALL; reply[t] = NO_REPLY; replied[t] = NOBODY }
}

/* over: what the proxy forgets at the end of an attempt. */
inline over() { d_step { fresh[t] = false; anchored[t] = false; v = NO_REPLY; r = NOBODY; tries = 0 } }

inline execute() {
    d_step {
        /* Nothing is executed without a lease that is alive, but for a store
         * that lost it between granting it and now. */
        assert(state == IN_PROGRESS && owner == t && !lapsed || losses > 0);
        /* Nothing is executed again without a reason. */
        assert(!charged || losses > 0);
        assert(sent[t] == 0);   /* no two executions inside one lease */
        charged = true; sent[t]++
    }
}

proctype proxy(byte p) {
    byte a, t, v, r, tries;
    do
    :: a == ATTEMPTS -> break
    :: a < ATTEMPTS ->
        t = p * ATTEMPTS + a; a++; tries = 0;
        /* Proxies are alike: that they start in order loses nothing. */
        t % ATTEMPTS > 0 || t == 0 || was[(t - ATTEMPTS) * EVENTS + ACQUIRE];
again:
        ask(ACQUIRE);
        hear();
        if
        :: v == NO_REPLY && tries == 0 -> tries++; goto again     /* with the same token */
        :: v == NO_REPLY && tries > 0 ->
#ifdef BUG_FAIL_OPEN
            goto granted
#else
            tell(RELEASE); goto done          /* 500, and the lease is given back */
#endif
        :: v == V_COMPLETED ->
            assert(r != NOBODY && (told == NOBODY || told == r || losses + purges > 0)); goto done
        :: v == V_ACQUIRED || v == V_YOURS -> skip
        :: else -> goto done                                       /* 409 */
        fi;
confirm:
        if
        :: goto done                                               /* the proxy dies here */
        :: atomic { fresh[t] -> execute() }
        :: !fresh[t] ->
#ifdef BUG_NO_CONFIRM
            goto granted
#else
            ask(RENEW);
            hear();
            if
            :: v == V_OK -> goto confirm
            :: else -> tell(RELEASE); goto done  /* nothing was sent */
            fi
#endif
        :: tell(RELEASE); goto done           /* the backend cannot be reached */
        fi;
        goto working;
#if defined(BUG_FAIL_OPEN) || defined(BUG_NO_CONFIRM)
granted:
        execute();
#endif
working:
        tell(RENEW);                                               /* the watchdog */
#ifdef BUG_RESEND
        if
        :: execute()
        :: skip
        fi;
#endif
        if
        :: goto done                                               /* the proxy dies here */
        :: /* the backend answers */
            ask(COMPLETE);
            hear();
            if
            :: atomic { v == V_OK ->
                if
                :: state == COMPLETED && response == t -> told = t
                :: else
                fi }
            :: else                                                /* the client has its answer; strays try on */
            fi
        :: /* the backend is cut off: it may have executed */
#ifdef HOLD
            ask(HOLDS);
#else
            ask(RELEASE);
#endif
            hear()
        fi;
done:
        over()
    od
}

init {
    atomic {
        run network(); run world();
        byte p = 0;
        do
        :: p < PROXIES -> run proxy(p); p++
        :: p == PROXIES -> break
        od
    }
}
