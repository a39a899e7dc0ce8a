/*
 * One key of a route with on_ambiguous: settle: attempts, a store that forgets, and
 * a backend that writes a receipt in the transaction of the effect and voids attempts
 * when it is asked. docs/model.md says what is covered and what is not.
 *
 * Every attempt is a process of its own, as if each had a proxy of its own, which may
 * stall between any two steps or die. There are no clocks: nothing here depends on a
 * lease that is alive. A message, once sent, arrives at any later time. That one arrives
 * twice changes nothing, but for a request to the backend: see TWICE.
 *
 * The test beside this file writes table.pml from idem.Transitions, and runs every
 * configuration:
 *
 *   LOSS      the store comes back without its data, as often as it likes
 *   BACK      the store comes back with an earlier record, likewise
 *   OPEN      a request may come without a lease: by fail_open, or past the proxy
 *   TWICE     a request whose transaction was aborted may arrive again; and a gateway may
 *             answer "try again" for one that the backend has yet to execute
 *   NUMBERS   the backend knows attempts by their numbers, not by tokens; what it says
 *             of a voided one names the highest number that it knows
 *   STRICT    with NUMBERS: what holds for tokens is asserted of numbers as well
 *   BUG_...   one mistake, which must be found
 */
#include "table.pml"   /* states, events, verdicts, transition(), MOVES(), ATTEMPTS */

#define NOBODY 255

/* The store's record. Where lapsing holds, LAPSED is not among its states. */
byte state = ABSENT;
byte owner = NOBODY;
byte response = NOBODY;         /* whose execution it is of */

/* What was asked of the store under an attempt's token, by its own proxy or by
 * whoever settles it. */
bool releases[ATTEMPTS];
byte completes[ATTEMPTS] = NOBODY; /* with whose response */

/* The proxies. */
byte next;                      /* the attempt to begin next: they are alike, so the order loses nothing */
bool leased[ATTEMPTS];          /* the store has granted it a lease */
bool sent[ATTEMPTS];            /* the request to the backend; it is on its way until it arrives */
bool waits[ATTEMPTS];           /* for the answer to it */
bool asked[ATTEMPTS];           /* somebody has asked the backend to void it */

/* The backend's table. An uncommitted row is a lock: who would insert the same waits. */
mtype = { NONE, UNCOMMITTED, EXECUTED, VOIDED };
mtype row[ATTEMPTS + 1] = NONE; /* by the attempt's name, the primary key */
byte writing;                   /* uncommitted rows that say executed */
byte executed = NOBODY;         /* whose row says so, of those committed */

#ifdef NUMBERS
byte number[ATTEMPTS];
byte count;                     /* the store's, of attempts at the key */
byte highest;                   /* the highest number with a row */
byte names[ATTEMPTS];           /* the number that comes with a release */
byte learned;                   /* what is to be proved about: the highest that the store was told since it forgot */
#define NAME(t) number[t]
#else
#define NAME(t) t
#endif

#ifdef BUG_NO_UNIQUE
#define FREE true               /* unique is only the attempt */
#define FOUND(t) (row[NAME(t)] == EXECUTED)
#else
#define FREE (writing == 0 && executed == NOBODY)
#define FOUND(t) (executed != NOBODY)
#endif
#ifdef BUG_VOID_ANY
#define IS_VOIDED(t) anyVoided  /* the row names the operation, not the attempt */
bool anyVoided;
#else
#define IS_VOIDED(t) (row[NAME(t)] == VOIDED)
#endif
#ifdef BUG_SETTLE_ANY
#define WHO(t) HOLDER
#else
#define WHO(t) (owner == t -> HOLDER : STRANGER)
#endif

/* What is to be proved about; no step depends on it, but that it is said once. */
byte effects;                   /* of the operation */
bool effect[ATTEMPTS];          /* the attempt had it */
bool denied[ATTEMPTS];          /* the backend has said that it has none and never will */

hidden byte to, verdict;

/* STEP has the search say that some run comes here: the test wants that of each. */
#define STEP(name) c_code { static int seen; if (!seen++) printf("step " #name "\n"); }

/* have: the effect is committed. */
inline have(t) {
    effects++; effect[t] = true;
    assert(effects == 1);       /* no two effects of one operation */
    assert(!denied[t])          /* none of an attempt that was denied */
}

inline know(t) {
#ifdef NUMBERS
    highest = (number[t] > highest -> number[t] : highest)
#else
    skip
#endif
}

inline commit(t) {
    row[NAME(t)] = EXECUTED; writing--; executed = t; know(t);
    have(t)
}

/* hear: the proxy has the answer, a response; r is whose. */
inline hear(who, r) { waits[who] = false; completes[who] = r }

/* deny: the backend has said that the attempt is voided, and so a client may be told. */
inline deny(t) {
    assert(!effect[t]);         /* nobody is told that nothing was done when it was */
    denied[t] = true; releases[t] = true;
#ifdef NUMBERS
    names[t] = highest
#endif
}

/* One attempt, in its proxy. Who gets a 409 asks again: it waits here for its turn. */
proctype proxy(byte t) {
end:
    if
#ifdef OPEN
    :: d_step { next == t -> next++; sent[t] = true; waits[t] = true; STEP(open) }; /* the store has no record of it */
        goto endWaits
#endif
    :: d_step { next == t && state == ABSENT ->
        next++;
        transition(ABSENT, ACQUIRE, STRANGER, SAME_PAYLOAD);
        assert(verdict == V_ACQUIRED);
        state = to; owner = t;
#ifdef NUMBERS
        count++; number[t] = count;
        /* A number that the backend has named to the store is not given again. */
        assert(count > learned);
#endif
        leased[t] = true; STEP(begin) }
    fi;
    if
    :: d_step { sent[t] = true; waits[t] = true; STEP(send) }
    :: d_step { releases[t] = true; STEP(unsent) }; goto endOver                     /* nothing could be sent */
    :: goto endOver                                         /* the proxy dies here */
    fi;
endWaits:
    if
    :: d_step { waits[t] -> waits[t] = false; asked[t] = true; STEP(cut) } /* a cut, a time-out, or no certain answer */
    :: d_step { waits[t] -> waits[t] = false }              /* the proxy dies here */
#ifdef TWICE
    :: d_step { waits[t] -> waits[t] = false; releases[t] = true; STEP(gateway) } /* a gateway says: try again */
#endif
    :: !waits[t]                                            /* the answer has come */
    fi;
endOver:
    false
}

/* The request of one attempt, in the backend. An answer that nobody hears, to a request
 * that changed nothing, is no step. */
proctype backend(byte t) {
end:
    if
    :: d_step { sent[t] && waits[t] && FOUND(t) -> hear(t, executed); STEP(found) }; /* another one's receipt */
        goto endOver
    :: d_step { sent[t] && waits[t] && !FOUND(t) && IS_VOIDED(t) -> /* it is refused: the proxy asks */
#if !defined(NUMBERS) || defined(STRICT)
        assert(asked[t]);       /* nothing is refused that nobody has asked to void */
#endif
        waits[t] = false; asked[t] = true; STEP(refused) };
        goto end
#ifdef BUG_OUTSIDE
    :: d_step { sent[t] && row[NAME(t)] == NONE && !IS_VOIDED(t) && FREE -> have(t) };
        if
        :: d_step { row[NAME(t)] == NONE -> row[NAME(t)] = EXECUTED; executed = t; know(t) }
        :: skip                 /* the backend dies here */
        fi;
        goto endOver
#else
    :: d_step { sent[t] && row[NAME(t)] == NONE && !IS_VOIDED(t) && FREE -> row[NAME(t)] = UNCOMMITTED; writing++;
        STEP(insert) }
#endif
    fi;
    /* The effect is written, for this transaction alone: nobody sees that step. */
#ifdef BUG_ANSWER_EARLY
    if
    :: d_step { waits[t] -> hear(t, t) }
    :: skip
    fi;
#endif
    if
    :: d_step { waits[t] -> commit(t); hear(t, t); STEP(answer) }
    :: d_step { commit(t); STEP(lost) }         /* and the answer is lost */
    :: d_step { waits[t] -> row[NAME(t)] = NONE; writing--; waits[t] = false; releases[t] = true; STEP(again) } /* 429 or 5xx */
    :: d_step { row[NAME(t)] = NONE; writing--; STEP(abort) } /* an abort, and no answer */
    fi;
#ifdef TWICE
    if
    :: d_step { executed == NOBODY -> STEP(twice) }; goto end
    :: skip
    fi;
#endif
endOver:
    false
}

/* Whoever settles the attempt, and the endpoint that is asked: a proxy that got no
 * certain answer, one that was asked for the key by a client, or one that found it in
 * the store. It may be any number of them, each as slow as it likes: what was asked
 * once may be done at any later time. */
proctype settler(byte t) {
end:
    do
#ifndef BUG_OWN_ONLY
    :: d_step { state == UNKNOWN && owner == t && !asked[t] -> asked[t] = true; STEP(ask) }
#endif
    /* The void inserts. It waits for a transaction under way on the same row. */
#if defined(BUG_LOOK_FIRST)
    :: asked[t] && row[NAME(t)] != EXECUTED && !denied[t] && executed == NOBODY ->
        d_step {
            row[NAME(t)] != UNCOMMITTED ->
            row[NAME(t)] = (row[NAME(t)] == NONE -> VOIDED : row[NAME(t)]);
            deny(t)
        }
#elif defined(BUG_NO_FENCE)
    :: d_step { asked[t] && row[NAME(t)] != EXECUTED && executed == NOBODY && !denied[t] -> deny(t) }
#else
    :: d_step { asked[t] && row[NAME(t)] == NONE -> row[NAME(t)] = VOIDED; know(t);
#ifdef BUG_VOID_ANY
        anyVoided = true;
#endif
        STEP(fence) }
#endif
    /* And then it looks. */
    :: d_step { asked[t] && (row[NAME(t)] == EXECUTED || row[NAME(t)] == VOIDED) && executed != NOBODY &&
        completes[t] == NOBODY -> completes[t] = executed; STEP(receipt) }
    :: d_step { asked[t] && row[NAME(t)] == VOIDED && executed == NOBODY && !denied[t] -> deny(t); STEP(deny) }
    od
}

/* What was asked of the store arrives. What would change nothing is no step. */
proctype network(byte t) {
end:
    do
    :: d_step { releases[t] && MOVES(state, RELEASE, WHO(t)) ->
        transition(state, RELEASE, WHO(t), SAME_PAYLOAD);
        assert(releases[owner]); /* what is freed is what that was said of */
        state = to; owner = NOBODY; STEP(free);
#ifdef NUMBERS
        learned = (names[t] > learned -> names[t] : learned);
#ifndef BUG_NO_HIGHEST
        count = (names[t] > count -> names[t] : count)
#endif
#endif
    }
    :: d_step { completes[t] != NOBODY && MOVES(state, COMPLETE, WHO(t)) ->
        transition(state, COMPLETE, WHO(t), SAME_PAYLOAD);
        assert(completes[owner] != NOBODY); /* likewise */
        state = to; response = completes[t]; STEP(keep);
        assert(executed == response && effect[response]) /* what is kept is of an executed row */
    }
#ifdef BACK
    /* Whatever it was before, with what has become of it since the attempt began. */
    :: d_step { leased[t] && (state != IN_PROGRESS || owner != t) -> state = IN_PROGRESS; owner = t; response = NOBODY;
        STEP(back);
#ifdef NUMBERS
        count = number[t]; learned = 0
#endif
    }
#endif
    od
}

/* The passing of time, and other misfortunes. */
proctype world() {
end:
    do
    :: d_step { state == IN_PROGRESS -> state = UNKNOWN; STEP(lapse) } /* the lease lapses, or the proxy holds the key */
#ifdef LOSS
    :: d_step { state != ABSENT ->
        state = ABSENT; owner = NOBODY; response = NOBODY; STEP(loss);
#ifdef NUMBERS
        count = 0; learned = 0
#endif
    }
#ifdef NUMBERS
    :: d_step { state == ABSENT && count > 0 -> count = 0; learned = 0 }
#endif
#endif
    od
}

init {
    atomic {
        run world();
        byte t = 0;
        do
        :: t < ATTEMPTS -> run proxy(t); run backend(t); run settler(t); run network(t); t++
        :: t == ATTEMPTS -> break
        od
    };
    /* When nothing happens any more, because everything that was asked was answered: */
    timeout -> STEP(end)
    assert(state == ABSENT || state == COMPLETED)           /* no key stays unknown */
}
