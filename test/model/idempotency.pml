/*
 * One key of IdemProxy: proxies that acquire, execute and end, a store that
 * answers by the transition table, and a network, a clock, an operator and
 * crashes that do their worst. docs/model.md says what is covered and what is not.
 *
 * The test beside this file writes table.pml from idem.Transitions, so the model
 * cannot drift from the code, and runs every configuration:
 *
 *   HOLD      on_ambiguous: hold instead of release
 *   MIXED     the settings were changed: every second request is held, the others are released
 *   LOSS      the store comes back once without its data
 *   ACTS=n    the operator's acts that change something, 0 for none
 *   RECIPES   every second request is of a proxy with other settings
 *   HOSTS     every second request is to another host
 *   LATE      an acquire has a deadline, and its sender gives the key back
 *   BUG_...   one mistake, which must be found
 */
#include "table.pml"  /* states, events, verdicts, transition() */

#ifdef BUG_OWN_CLOCK
#define OWN_CLOCK true
#else
#define OWN_CLOCK false
#endif
#if defined(HOLD)
#define HOLDING(t) true
#elif defined(MIXED)
#define HOLDING(t) (t % 2 == 1)
#else
#define HOLDING(t) false
#endif
#if defined(BUG_LAPSE_FREES)
#define LAPSES LAPSED
#elif defined(BUG_POLICY_OF_OTHERS)
#define LAPSES (HOLDING((owner + 1)) -> UNKNOWN : LAPSED)
#else
#define LAPSES (HOLDING(owner) -> UNKNOWN : LAPSED)
#endif
#define TOKENS (PROXIES * ATTEMPTS)
#define NOBODY 255
#define OPERATOR 254            /* whose a response is that was resolved by hand */
#define NO_CALL 255
#define NO_REPLY 255

/* What a request is: which host it is to, and by which recipe its proxy makes
 * hashes. A record is compared by the recipe that it was made by. */
#ifdef HOSTS
#define HOST(t) (t % 2)
#else
#define HOST(t) 0
#endif
#ifdef RECIPES
#define RECIPE(t) (t % 2)
#else
#define RECIPE(t) 0
#endif

/* The store's record. What the store's clock makes of a record, LAPSED, EXPIRED
 * and, with HOLD, UNKNOWN, is a state here. */
byte state = ABSENT;
byte owner = NOBODY;
bool recipe;
byte response = NOBODY;         /* whose execution it is of */

/* The network. What was sent once may arrive at any later time and any number of
 * times; only the answer to the call that its sender is waiting for is heard,
 * and it may get lost. With LATE, an acquire has no effect after its deadline. */
bool was[TOKENS * MESSAGES];    /* sent at some time */
byte call[TOKENS] = NO_CALL;    /* which message the caller waits for the answer to */
byte reply[TOKENS] = NO_REPLY;
#ifdef LATE
bool due[TOKENS];               /* the deadline of the acquires of this token has not passed */
#ifdef BUG_NO_DEADLINE
#define IN_TIME(t, m) true
#else
#define IN_TIME(t, m) (!IS_ACQUIRE(m) || due[t])
#endif
#else
#define IN_TIME(t, m) true
#endif
#define IS_ACQUIRE(m) (m == ACQUIRE || m == ACQUIRE_1)

/* Time. fresh: the proxy's own monotonic clock says that less than a heartbeat
 * has passed since it sent its last call. anchored: the store has granted that
 * call, so the lease cannot have lapsed before fresh ends: both clocks measure
 * the same time, the proxy from an earlier moment and to an earlier end. */
bool fresh[TOKENS], anchored[TOKENS];

/* The operator. */
byte looked = NOBODY;           /* the owner that was looked at, for a release or a resolve */

/* What is to be proved about, and bounds; nothing above reads it. */
byte lastGrant = NOBODY;        /* to whom the store last gave the lease */
bool charged;                   /* an execution since the last reason for another one */
byte told = NOBODY;             /* the response that was given as kept */
bool sent[TOKENS];              /* executed under this token */
bool taken[TOKENS];             /* the operator took a lease away that is trusted and was not used yet */
bool gone[TOKENS];              /* the sender has given the key back and does nothing any more; nothing was sent */
byte losses, ends, acts;

hidden byte from, to, who, same, verdict, event;

/* The automaton of the model, for the traces of the code: every step, move and call of a
 * proxy is said once, in the numbers of table.pml. No step of the model depends on it. */
c_decl {
static char rowSaid[8][16][4][4][8][16], moveSaid[8][8], callSaid[16][16][16];
static void sayRow(int f, int e, int w, int p, int t, int v) {
    if (!rowSaid[f][e][w][p][t][v]++) printf("row %d %d %d %d %d %d\n", f, e, w, p, t, v);
}
static void sayMove(char *name, int f, int t) {
    if (!moveSaid[f][t]++) printf("move %s %d %d\n", name, f, t);
}
static void sayCall(int last, int heard, int next) {
    if (!callSaid[last & 15][heard & 15][next]++) printf("call %d %d %d\n", last, heard, next);
}
}
#define ROW c_code { sayRow(from, event, who, same, to, verdict); }
#define MOVE(name) c_code { sayMove(#name, from, now.state); }
/* What a proxy asks for, after its last call but for renewals, and the answer to that. */
#define CALL(m) event = (m == ACQUIRE_1 -> ACQUIRE : m); c_code { sayCall(Pproxy->last, Pproxy->heard, event); }

inline another() { charged = false; told = NOBODY }

/* forget: the record is no more. */
inline forget() { state = ABSENT; owner = NOBODY; recipe = 0; response = NOBODY; another() }

/* compare leaves same: what the store can tell of a claim by recipe made. */
inline compare(t, made) {
    if
#if defined(BUG_RECIPES_COMPARED)
    :: recipe != (made) -> same = OTHER_PAYLOAD   /* other hashes of the same request */
#elif !defined(BUG_RECIPE_NAMES)
    :: recipe != (made) -> same = OTHER_RECIPE
#endif
#ifndef BUG_NO_HOST
    :: recipe == (made) && owner != NOBODY && HOST(owner) != HOST(t) -> same = OTHER_PAYLOAD
#endif
    :: else -> same = SAME_PAYLOAD
    fi
}

/* What the store does with a message of token t: one atomic step, as a script or
 * a batch is. */
inline handle(t, message) {
    who = (owner == t -> HOLDER : STRANGER);
#ifdef BUG_NO_OWNER
    who = (IS_ACQUIRE(message) -> who : HOLDER);
#endif
    from = state;
    event = (message == ACQUIRE_1 -> ACQUIRE : message);
    same = SAME_PAYLOAD;
    if
    :: IS_ACQUIRE(message) ->
        compare(t, message == ACQUIRE_1);
#ifdef BUG_RECIPE_NAMES
        /* Another name, where nothing is found. */
        from = (recipe != (message == ACQUIRE_1) && from != IN_PROGRESS -> ABSENT : from);
#endif
        transition(from, ACQUIRE, who, same)
    :: else -> transition(from, message, who, SAME_PAYLOAD)
    fi;
    if
    :: verdict == V_ACQUIRED ->
        if
        :: from == LAPSED && !HOLDING(owner) -> another()   /* lapsing frees the key: the operator's choice */
        :: else
        fi;
        assert(!gone[t]);       /* nobody is there who would use it or give it back */
        owner = t; recipe = (message == ACQUIRE_1); response = NOBODY; lastGrant = t; taken[t] = false
    :: verdict == V_YOURS -> assert(!gone[t]); lastGrant = t
    :: verdict == V_COMPLETED || verdict == V_EXPIRED || verdict == V_UNKNOWN || verdict == V_IN_PROGRESS ->
        assert(HOST(owner) == HOST(t)); /* nobody learns what became of another's request */
        if
        :: verdict == V_COMPLETED ->
            assert(response != NOBODY && (told == NOBODY || told == response || losses > 0));
            told = response
        :: else
        fi
    :: verdict == V_MISMATCH -> assert(HOST(owner) != HOST(t)) /* what is the same is never refused as another */
    :: verdict == V_OK ->
        /* No overwrite by a stale owner: nobody else was given the key since. */
        assert(lastGrant == t || from == to);
        if
        :: message == COMPLETE ->
            response = (from != to -> t : response);
            assert(response == t || to == EXPIRED); /* who is told that it is stored, has it stored */
            told = (response == t && to == COMPLETED -> t : told)
        :: message == RELEASE && from != ABSENT && sent[t] ->
            assert(!HOLDING(t)); /* nothing that may have executed is freed */
            another()
        :: else
        fi
    :: else
    fi;
    ROW;
    state = to
}

#define GRANTED (verdict == V_ACQUIRED || verdict == V_YOURS || verdict == V_OK)

/* A message arrives without an answer that anybody hears: a late or second copy,
 * or the answer got lost. */
#define STRAY(t, m) d_step { was[t * MESSAGES + m] && IN_TIME(t, m) -> handle(t, m) }

/* A message arrives, and its answer does too. */
#define CURRENT(t, m) d_step { call[t] == m && reply[t] == NO_REPLY -> \
        handle(t, m); reply[t] = verdict; anchored[t] = fresh[t] && GRANTED }

#define PAUSE(t) d_step { fresh[t] -> fresh[t] = false; anchored[t] = false; taken[t] = false }

/* A call ends no later than the deadline of its acquire. */
#ifdef LATE
#define DEADLINE(t) d_step { due[t] && !IS_ACQUIRE(call[t]) -> due[t] = false }
#else
#define DEADLINE(t) false
#endif

proctype network() {
end:
    do
    DELIVERIES                  /* of table.pml: STRAY and CURRENT of every token and message */
    od
}

/* The passing of time, and other misfortunes. */
proctype world() {
end:
    do
    CLOCKS                      /* of table.pml: PAUSE and DEADLINE of every token */
    :: d_step { state == IN_PROGRESS && (OWN_CLOCK || !anchored[owner]) -> from = state; state = LAPSES; MOVE(lapses) }
    :: d_step { state == COMPLETED -> from = state; state = EXPIRED; MOVE(expires) } /* the end of retention */
    :: d_step { state == EXPIRED && ends == 0 -> ends++; from = state; forget(); MOVE(ends) } /* the end of remember */
    /* What is free is forgotten after a time, and with it who had it. */
    :: d_step { (state == ABSENT || state == LAPSED) && owner != NOBODY -> from = state;
        if
        :: state == LAPSED && !HOLDING(owner) -> another()
        :: else
        fi;
        state = ABSENT; owner = NOBODY; recipe = 0; response = NOBODY; MOVE(ends) }
#ifdef BUG_EXPIRED_FORGOTTEN
    :: d_step { state == EXPIRED -> state = ABSENT }
#endif
#ifdef BUG_HELD_ENDS
    :: d_step { state == UNKNOWN -> state = ABSENT; owner = NOBODY }
#endif
#ifdef LOSS
    :: d_step { losses == 0 && (state != ABSENT || owner != NOBODY) -> losses++; from = state; forget(); MOVE(purged) }
#endif
    od
}

/* take: the operator frees the key, whoever has it. */
inline take() {
    if
    :: owner != NOBODY -> taken[owner] = fresh[owner] && !sent[owner]
    :: else
    fi;
    another(); acts++
}

#ifdef BUG_RESOLVE_ANY
#define ANY_OF(t, act) (act != TAKE)
#else
#define ANY_OF(t, act) (act != TAKE && t == NOBODY)
#endif

/* An event of the operator's, as the store has it; t is whose attempt is meant. A resolve
 * may mean whichever it is. */
inline operate(t, act) {
    from = state;
    event = act;
    same = SAME_PAYLOAD;
    who = (owner == t || ANY_OF(t, act) -> HOLDER : STRANGER);
    transition(from, act, who, SAME_PAYLOAD);
    if
    :: verdict == V_OK && from != to ->
        assert(from != COMPLETED && from != EXPIRED);   /* a response is not taken away but by a purge */
        assert((act != TAKE) == (from == UNKNOWN));   /* what may have executed is not freed unasked */
        assert(t == NOBODY || t == owner);              /* what is known of an attempt is not said of another */
        if
        :: to == COMPLETED -> response = OPERATOR; charged = true; told = OPERATOR; acts++
        :: else -> take()
        fi;
#ifndef BUG_RESOLVED_IS_THEIRS
        /* What stands is the operator's: a late ending of the attempt is not what was done. */
        owner = (act == TAKE -> owner : NOBODY)
#endif
    :: else
    fi;
    ROW;
    state = to
}

/* The operator looks and acts at any moment; looking and acting are two steps. */
proctype operator() {
end:
    do
    :: d_step { acts < ACTS && state != ABSENT -> from = state; take(); state = ABSENT; owner = NOBODY; recipe = 0; response = NOBODY; MOVE(purged) }
    :: d_step { acts < ACTS && (state == IN_PROGRESS || state == UNKNOWN) && looked == NOBODY -> looked = owner }
    :: d_step { acts < ACTS && looked != NOBODY ->
#ifdef BUG_LOOK_THEN_PURGE
        if
        :: state != COMPLETED && state != EXPIRED -> take()
        :: else                 /* it was completed since, and is forgotten */
        fi;
        state = ABSENT; owner = NOBODY; recipe = 0; response = NOBODY;
#else
        operate(looked, TAKE);
#endif
        looked = NOBODY }
    :: d_step { acts < ACTS && looked != NOBODY -> operate(looked, RESOLVE_RETRY); looked = NOBODY }
    :: d_step { acts < ACTS && looked != NOBODY -> operate(looked, RESOLVE_COMPLETE); looked = NOBODY }
    :: d_step { acts < ACTS -> operate(NOBODY, RESOLVE_RETRY) }
    :: d_step { acts < ACTS -> operate(NOBODY, RESOLVE_COMPLETE) }
    :: d_step { acts == ACTS && looked != NOBODY -> looked = NOBODY }
    od
}

inline tell(m) { d_step { was[t * MESSAGES + m] = true; CALL(m) } }

inline ask(m) {
    d_step { tell(m); call[t] = m; reply[t] = NO_REPLY; fresh[t] = true; anchored[t] = false }
}

inline askAcquire() {
    d_step {
        m = (by == 0 -> ACQUIRE : ACQUIRE_1);
        tell(m); call[t] = m; reply[t] = NO_REPLY; fresh[t] = true; anchored[t] = false; m = 0;
#ifdef LATE
        due[t] = true
#endif
    }
}

/* hear leaves v: the answer, or NO_REPLY if none came in time. */
inline hear() {
    d_step {
        v = reply[t];
        if
        :: IS_ACQUIRE(call[t]) -> last = ACQUIRE; heard = (v == V_YOURS -> V_ACQUIRED : v)
        :: call[t] == RELEASE -> last = RELEASE; heard = v  /* which may be asked again */
        :: else
        fi;
        call[t] = NO_CALL; reply[t] = NO_REPLY
    }
}

/* over: what the proxy forgets at the end of an attempt. */
inline over() {
    d_step { fresh[t] = false; anchored[t] = false; taken[t] = false; v = NO_REPLY; tries = 0; asked = 0; by = 0; doubt = false;
        last = NO_CALL; heard = NO_REPLY }
}

inline execute() {
    d_step {
        /* Nothing is executed without a lease that is alive, but for one that the
         * store lost, or the operator took, between granting it and now. */
        assert(state == IN_PROGRESS && owner == t || losses > 0 || taken[t]);
        /* Nothing is executed again without a reason. Whose lease the operator took
         * executes what was free before. */
        assert(!charged || losses > 0 || taken[t]);
        assert(!sent[t]);       /* no two executions inside one lease */
        charged = charged || !taken[t]; sent[t] = true
    }
}

/* Since there is C in the model, Spin does not see where a variable is of no use any more:
 * each is set back there by hand, or there would be three times as many states. */
proctype proxy(byte p) {
    byte a, t, v, tries, asked, by, m, last = NO_CALL, heard = NO_REPLY;
    bool doubt;                 /* an acquire was not answered */
    do
    :: a == ATTEMPTS -> break
    :: a < ATTEMPTS ->
        t = p * ATTEMPTS + a; a++; tries = 0; by = RECIPE(t);
        /* Two proxies are alike, but for names: that they start in order loses nothing. */
        t % ATTEMPTS > 0 || t == 0 || was[(t - ATTEMPTS) * MESSAGES + ACQUIRE];
again:
        askAcquire();
        hear();
        if
        :: v == NO_REPLY && tries == 0 -> tries++; doubt = true; goto again   /* with the same token */
        :: v == NO_REPLY && tries > 0 -> doubt = true;
#ifdef BUG_FAIL_OPEN
            goto granted
#else
            goto back                         /* 500, and the lease is given back */
#endif
        :: v == V_OTHER_RECIPE && asked < 3 -> asked++; tries = 1; by = 1 - by; goto again
        :: v == V_OTHER_RECIPE ->             /* which is not known here, or not yet: 500 */
            if
            :: doubt -> goto back
            :: else -> goto done
            fi
        :: v == V_ACQUIRED || v == V_YOURS -> d_step { v = NO_REPLY; tries = 0; asked = 0; by = 0 }
        :: else ->                            /* 409, 410, 422 or a replay */
#ifdef LATE
#ifndef BUG_NO_RETURN
            if
            :: doubt -> goto back
            :: else
            fi;
#else
            gone[t] = doubt;
#endif
#endif
            goto done
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
            :: v == V_OK -> v = NO_REPLY; goto confirm
            :: else -> v = NO_REPLY; goto back /* nothing was sent */
            fi
#endif
        :: goto back                          /* the backend cannot be reached */
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
            hear(); v = NO_REPLY                                   /* the client has its answer; strays try on */
        :: /* the backend is cut off: it may have executed */
            if
            :: HOLDING(t) -> ask(HOLDS)
            :: else -> ask(RELEASE)
            fi;
            hear(); v = NO_REPLY
        fi;
        goto done;
back:
        /* Nothing was sent. What an acquire that was not answered may yet bring is
         * given back until that is answered after its deadline. */
#ifdef LATE
        ask(RELEASE);
        hear();
        if
        :: v == NO_REPLY -> goto back
#ifndef BUG_ONE_RELEASE
        :: v != NO_REPLY && doubt && due[t] -> goto back
#endif
        :: else -> gone[t] = doubt
        fi;
#else
        tell(RELEASE);
#endif
done:
        over()
    od
}

init {
    atomic {
        run network(); run world(); run operator();
        byte p = 0;
        do
        :: p < PROXIES -> run proxy(p); p++
        :: p == PROXIES -> break
        od
    }
}
