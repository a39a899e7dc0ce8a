-- Version 1 of what a PostgreSQL store keeps, and of what it does with it. @ is the
-- schema's name, quoted. It is run as a whole, in one transaction.
--
-- Times are milliseconds since 1970 on this server's clock, as in package idem. They
-- are read with clock_timestamp() and after a row is locked: now() would be the
-- time from before the wait. Each function reads that clock anew whenever it judges,
-- and judges and writes by one reading.

CREATE TABLE @.meta (
  one boolean PRIMARY KEY DEFAULT true CHECK (one),
  version integer NOT NULL,
  least integer NOT NULL -- the oldest version whose proxies may use it
);
COMMENT ON TABLE @.meta IS 'the version of this schema; "idemproxy migrate" changes it';
INSERT INTO @.meta (version, least) VALUES (1, 1);

-- id is the only column with an index, so that an update which finds room in its
-- page touches no index (HOT): a key is inserted once and updated once. The end of
-- records has no index for that reason; see sweep.
CREATE TABLE @.record (
  id          uuid PRIMARY KEY,   -- digest of scope and key
  owner       uuid NOT NULL,      -- token of the attempt; zero after an operator resolved it
  fingerprint uuid NOT NULL,
  binding     uuid NOT NULL,
  recipe      bigint NOT NULL,
  attempt     bigint NOT NULL,
  until       bigint,             -- in progress: end of the lease; completed: end of replays
  created     bigint NOT NULL,
  updated     bigint NOT NULL,
  expires     bigint,             -- when the record ends; null: never
  retention   bigint NOT NULL,    -- ms
  remember    bigint NOT NULL,    -- ms
  state       smallint NOT NULL,  -- idem/state.go: 0 absent, 1 in progress, 2 completed, 3 unknown
  holds       boolean NOT NULL,   -- a lapsed lease makes the key unknown, not free
  hinted      boolean NOT NULL DEFAULT false, -- the owner's token has idem.Hints
  scope       bytea NOT NULL,
  key         bytea NOT NULL,
  response    bytea               -- idem/layout.go: a response alone
) WITH (fillfactor = 80,
  autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000,
  autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.1,
  toast.autovacuum_vacuum_scale_factor = 0.02, toast.autovacuum_vacuum_threshold = 5000);
-- Not compressed by the server: where that is wanted, the proxy does it.
ALTER TABLE @.record ALTER COLUMN response SET STORAGE EXTERNAL;
COMMENT ON TABLE @.record IS 'one row for each idempotency key; "idemproxy list" and the view keys show them';

CREATE VIEW @.keys AS
SELECT encode(scope, 'escape') AS scope, encode(key, 'escape') AS key,
  (ARRAY['absent', 'in progress', 'completed', 'unknown'])[state + 1] AS state, attempt,
  to_timestamp(until / 1000.0) AS until, to_timestamp(created / 1000.0) AS created,
  to_timestamp(updated / 1000.0) AS updated, to_timestamp(expires / 1000.0) AS expires,
  octet_length(response) AS response_bytes, id
FROM @.record;
COMMENT ON VIEW @.keys IS 'the records, to be read by people';

CREATE TABLE @.entry (
  name bytea PRIMARY KEY,
  text bytea NOT NULL,
  ends bigint NOT NULL -- 0: never
);
COMMENT ON TABLE @.entry IS 'how records were named and compared, for as long as there may be such records';

CREATE TABLE @.sweeper (
  one  boolean PRIMARY KEY DEFAULT true CHECK (one),
  page bigint NOT NULL DEFAULT 0, -- the first that is to be looked at next
  next bigint NOT NULL DEFAULT 0  -- and not before then, ms
);
COMMENT ON TABLE @.sweeper IS 'how far expired records have been swept; its row is locked by who sweeps';
INSERT INTO @.sweeper DEFAULT VALUES;

-- clock is this server's, in ms.
CREATE FUNCTION @.clock() RETURNS bigint LANGUAGE sql VOLATILE PARALLEL SAFE AS
$$ SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint $$;

-- acquire is one atomic check-and-set of the key k for the owner o.
--
-- It first tries to insert. ON CONFLICT DO NOTHING waits for whoever is inserting the
-- same key just now, so that of many one inserts. A key that is there is then read
-- without a lock: what leads to an answer that changes nothing (in progress,
-- completed, unknown, mismatch) was true when it was read, and that is all which
-- any lock could show. Only what is to be written is read once more with a lock, and
-- judged once more: somebody else may have been faster. Under READ COMMITTED each of
-- these statements sees what was committed before it began. Under the other levels
-- they see what was committed before the first of them, and the server refuses them
-- (40001) where that is not the last word; the caller begins again.
--
-- patience  how long it waits for others' locks, as lock_timeout takes it
-- deadline  until when the claim may be granted, by this server's clock, ms; null: always
--
-- verdict is idem.Verdict, or -2: granting it is too late. x is the remaining lease,
-- the part that differs, the record's recipe or for how many ms more there is the
-- response. at is this server's time. token is that of the record's owner, if it has
-- hints, for a response and for a payload that differs.
CREATE FUNCTION @.acquire(
  k uuid, o uuid, f uuid, b uuid, r bigint, ttl bigint, keep bigint, rem bigint, hold boolean, hint boolean,
  sc bytea, nm bytea, deadline bigint, patience text,
  OUT verdict integer, OUT tries bigint, OUT x bigint, OUT at bigint, OUT token uuid, OUT body bytea
) LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  cur @.record%ROWTYPE;
  locked boolean;
  same boolean;
  lapsed boolean;
BEGIN
  PERFORM set_config('lock_timeout', patience, true);
  FOR round IN 1..5 LOOP
    at := floor(extract(epoch FROM clock_timestamp()) * 1000);
    IF deadline IS NULL OR at < deadline THEN
      INSERT INTO @.record (id, owner, fingerprint, binding, recipe, attempt, until, created, updated, expires,
        retention, remember, state, holds, hinted, scope, key)
      VALUES (k, o, f, b, r, 1, at + ttl, at, at, CASE WHEN hold THEN NULL ELSE at + ttl + keep END,
        keep, rem, 1, hold, hint, sc, nm)
      ON CONFLICT (id) DO NOTHING;
      IF FOUND THEN
        -- It may have waited, for one who inserted it and gave up.
        at := floor(extract(epoch FROM clock_timestamp()) * 1000);
        IF at >= deadline THEN
          DELETE FROM @.record WHERE id = k;
          verdict := -2;
          RETURN;
        END IF;
        verdict := 0;
        tries := 1;
        RETURN;
      END IF;
    END IF;

    SELECT * INTO cur FROM @.record WHERE id = k;
    locked := false;
    WHILE cur.id IS NOT NULL LOOP
      at := floor(extract(epoch FROM clock_timestamp()) * 1000);
      tries := cur.attempt;
      lapsed := cur.state = 1 AND at >= cur.until;
      same := cur.fingerprint = f AND cur.binding = b AND cur.recipe = r;
      IF cur.expires <= at THEN
        verdict := 0; -- it has ended
        tries := 0;
      ELSIF cur.state = 0 OR (lapsed AND NOT cur.holds) THEN
        verdict := CASE WHEN lapsed AND cur.owner = o AND same THEN 1 ELSE 0 END;
      ELSIF NOT same THEN
        IF cur.recipe <> r THEN
          verdict := 9;
          x := cur.recipe;
        ELSE
          verdict := 4;
          x := CASE WHEN cur.binding <> b THEN 1 ELSE 2 END;
          IF cur.hinted THEN
            token := cur.owner;
          END IF;
        END IF;
        RETURN;
      ELSIF cur.state = 2 THEN
        -- Without a response, which somebody may have removed, the key counts as expired:
        -- it is never executed again for that.
        IF at >= cur.until OR cur.response IS NULL THEN
          verdict := 10;
        ELSE
          verdict := 3;
          x := cur.until - at;
          body := cur.response;
          IF cur.hinted THEN
            token := cur.owner;
          END IF;
        END IF;
        RETURN;
      ELSIF cur.state = 3 OR lapsed THEN
        verdict := 5;
        RETURN;
      ELSIF cur.owner = o THEN
        verdict := 1;
      ELSE
        verdict := 2;
        x := cur.until - at;
        RETURN;
      END IF;

      IF at >= deadline THEN
        verdict := -2;
        RETURN;
      END IF;
      IF locked AND verdict = 0 THEN
        tries := tries + 1;
        UPDATE @.record SET owner = o, fingerprint = f, binding = b, recipe = r, attempt = tries, until = at + ttl,
          created = at, updated = at, expires = CASE WHEN hold THEN NULL ELSE at + ttl + keep END,
          retention = keep, remember = rem, state = 1, holds = hold, hinted = hint, scope = sc, key = nm,
          response = NULL
        WHERE id = k;
        RETURN;
      ELSIF locked THEN
        UPDATE @.record SET until = at + ttl, updated = at, expires = CASE WHEN hold THEN NULL ELSE at + ttl + keep END,
          retention = keep, remember = rem, holds = hold
        WHERE id = k;
        RETURN;
      END IF;
      SELECT * INTO cur FROM @.record WHERE id = k FOR UPDATE;
      locked := true;
    END LOOP;

    IF at >= deadline THEN
      verdict := -2;
      RETURN;
    END IF;
    -- It was deleted since the attempt to insert it.
  END LOOP;
  RAISE EXCEPTION 'the key is inserted and deleted all the time' USING ERRCODE = '40001';
END $$;

-- settle is what ends an attempt: complete (2), release (3) and hold (4) by its owner,
-- and resolve as completed (5) or as free (6), and take (7), by an operator. To resolve
-- with an owner of zeros is to resolve whichever attempt is unknown. keep and rem may be
-- null: those of the record.
--
-- A repetition of what was done locks the row, too: a lock is a write, so the answer
-- comes after all that was written before is as durable as commits are, and where
-- there are synchronous standbys, on them.
--
-- It returns idem.Verdict: 6 done, or done before; 7 lost; 8 not unknown.
CREATE FUNCTION @.settle(
  k uuid, event integer, o uuid, keep bigint, rem bigint, body bytea, patience text
) RETURNS integer LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  cur record;
  at bigint;
  state_now integer;
BEGIN
  PERFORM set_config('lock_timeout', patience, true);
  FOR round IN 1..5 LOOP
    SELECT id, owner, until, expires, retention, remember, state, holds INTO cur FROM @.record WHERE id = k FOR UPDATE;
    IF cur.id IS NULL AND event = 3 THEN
      -- Nobody sees it, but whoever is inserting it just now may be this owner, whose
      -- acquire takes so long that its sender has given up. An insert waits for that.
      INSERT INTO @.record (id, owner, fingerprint, binding, recipe, attempt, created, updated, expires,
        retention, remember, state, holds, scope, key)
      VALUES (k, '00000000-0000-0000-0000-000000000000', '00000000-0000-0000-0000-000000000000',
        '00000000-0000-0000-0000-000000000000', 0, 0, 0, 0, 0, 0, 0, 0, false, '', '')
      ON CONFLICT (id) DO NOTHING;
      IF NOT FOUND THEN
        CONTINUE;
      END IF;
      DELETE FROM @.record WHERE id = k;
      RETURN 7;
    END IF;
    at := floor(extract(epoch FROM clock_timestamp()) * 1000);
    IF cur.id IS NULL OR cur.expires <= at THEN
      RETURN CASE WHEN event IN (5, 6) THEN 8 ELSE 7 END;
    END IF;
    state_now := cur.state;
    IF cur.state = 1 AND cur.holds AND at >= cur.until THEN
      state_now := 3;
    END IF;
    keep := coalesce(keep, cur.retention);
    rem := coalesce(rem, cur.remember);

    IF event IN (5, 6) THEN
      IF state_now <> 3 THEN
        RETURN 8;
      ELSIF o <> cur.owner AND o <> '00000000-0000-0000-0000-000000000000' THEN
        RETURN 7; -- another attempt is unknown than the one that was looked at
      END IF;
      -- What an operator made of a key is not its owner's: a late ending is lost.
      cur.owner := '00000000-0000-0000-0000-000000000000';
    ELSIF cur.owner <> o THEN
      RETURN 7;
    ELSIF (event = 2 AND state_now = 2) OR (event IN (3, 7) AND state_now = 0) OR (event = 4 AND cur.state = 3) THEN
      RETURN 6; -- done before, and the answer was lost
    ELSIF state_now = 0 OR state_now = 2 OR (event = 7 AND state_now = 3) THEN
      RETURN 7;
    END IF;

    IF event = 2 OR event = 5 THEN
      UPDATE @.record SET owner = cur.owner, hinted = hinted AND event = 2, state = 2, until = at + keep, updated = at, expires = at + keep + rem,
        retention = keep, remember = rem, response = body WHERE id = k;
    ELSIF event = 4 THEN
      UPDATE @.record SET state = 3, until = NULL, updated = at, expires = NULL, retention = keep, remember = rem
      WHERE id = k;
    ELSE
      UPDATE @.record SET owner = cur.owner, hinted = hinted AND event IN (3, 7), state = 0, until = NULL, updated = at,
        expires = at + keep, retention = keep, remember = rem WHERE id = k;
    END IF;
    RETURN 6;
  END LOOP;
  RAISE EXCEPTION 'the key is inserted and deleted all the time' USING ERRCODE = '40001';
END $$;

-- renew starts many leases anew. Rows that somebody has locked are left out, so that
-- one of them holds up none of the others, and no two batches wait for each other.
-- It goes through them one by one: of arrays the planner does not know the length,
-- and would join them by comparing each with each.
-- It returns a verdict for each, in their order: 6 done, 7 lost, or -4: its row is locked.
CREATE FUNCTION @.renew(ks uuid[], os uuid[], ttls bigint[], keeps bigint[], rems bigint[])
RETURNS SETOF integer LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  a record;
  cur record;
  at bigint;
BEGIN
  FOR a IN SELECT * FROM unnest(ks, os, ttls, keeps, rems) AS u (id, owner, ttl, keep, rem) LOOP
    SELECT id, owner, until, expires, retention, remember, state, holds INTO cur
    FROM @.record WHERE id = a.id FOR UPDATE SKIP LOCKED;
    at := floor(extract(epoch FROM clock_timestamp()) * 1000);
    IF cur.id IS NULL THEN
      RETURN NEXT CASE WHEN EXISTS (SELECT FROM @.record WHERE id = a.id) THEN -4 ELSE 7 END;
    ELSIF cur.owner <> a.owner OR cur.state <> 1 OR cur.expires <= at OR (cur.holds AND at >= cur.until) THEN
      RETURN NEXT 7;
    ELSE
      UPDATE @.record SET until = at + a.ttl, updated = at,
        retention = coalesce(a.keep, cur.retention), remember = coalesce(a.rem, cur.remember),
        expires = CASE WHEN cur.holds THEN NULL ELSE at + a.ttl + coalesce(a.keep, cur.retention) END
      WHERE id = a.id;
      RETURN NEXT 6;
    END IF;
  END LOOP;
END $$;

-- purge forgets a key. It returns whether there was one.
CREATE FUNCTION @.purge(k uuid, patience text) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  ended bigint;
BEGIN
  PERFORM set_config('lock_timeout', patience, true);
  DELETE FROM @.record WHERE id = k RETURNING coalesce(expires, 9000000000000000) INTO ended;
  RETURN coalesce(ended > floor(extract(epoch FROM clock_timestamp()) * 1000), false);
END $$;

-- probe does what the acquire of a new key does, and leaves nothing behind.
CREATE FUNCTION @.probe(k uuid) RETURNS integer LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  INSERT INTO @.record (id, owner, fingerprint, binding, recipe, attempt, created, updated, expires,
    retention, remember, state, holds, scope, key)
  VALUES (k, k, k, k, 0, 0, 0, 0, 0, 0, 0, 0, false, '', '');
  DELETE FROM @.record WHERE id = k;
  RETURN 6;
END $$;

-- enter writes an entry of the registry, which never ends sooner than was once said.
CREATE FUNCTION @.enter(n bytea, t bytea, keep bigint) RETURNS integer LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  till bigint := CASE WHEN keep = 0 THEN 0 ELSE floor(extract(epoch FROM clock_timestamp()) * 1000) + keep END;
BEGIN
  INSERT INTO @.entry AS e (name, text, ends) VALUES (n, t, till)
  ON CONFLICT (name) DO UPDATE SET text = t,
    ends = CASE WHEN e.ends = 0 OR till = 0 THEN 0 ELSE greatest(e.ends, till) END;
  RETURN 6;
END $$;

-- sweep deletes what has ended from the next pages of the table, and responses that
-- are not replayed any more. Who calls it while another one sweeps, or less than
-- pause ms after (rest ms, where the end of the table was reached), does nothing. It
-- reads the table from end to end, again and again, and needs no index for that,
-- which each new key would have to pay for.
--
-- gone is how many records it deleted, or -1: it was not its turn. emptied is of how
-- many it deleted the response alone. whole says that the end was reached.
CREATE FUNCTION @.sweep(pages bigint, pause bigint, rest bigint, OUT gone bigint, OUT emptied bigint, OUT whole boolean)
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  cur record;
  at bigint := floor(extract(epoch FROM clock_timestamp()) * 1000);
  size bigint := pg_relation_size('@.record') / current_setting('block_size')::bigint;
  first tid;
  last tid;
BEGIN
  gone := -1;
  SELECT s.page, s.next INTO cur FROM @.sweeper AS s FOR UPDATE SKIP LOCKED;
  -- A next that is later than it can be was written before the clock was set back.
  IF cur.page IS NULL OR (at < cur.next AND cur.next <= at + greatest(pause, rest)) THEN
    RETURN;
  END IF;
  IF cur.page >= size THEN
    cur.page := 0;
  END IF;
  first := format('(%s,0)', cur.page)::tid;
  last := format('(%s,0)', cur.page + pages)::tid;
  DELETE FROM @.record WHERE id = ANY (ARRAY(
    SELECT id FROM @.record WHERE ctid >= first AND ctid < last AND expires <= at FOR UPDATE SKIP LOCKED
  )) AND expires <= at;
  GET DIAGNOSTICS gone = ROW_COUNT;
  UPDATE @.record SET response = NULL WHERE id = ANY (ARRAY(
    SELECT id FROM @.record WHERE ctid >= first AND ctid < last AND state = 2 AND until <= at AND response IS NOT NULL
    FOR UPDATE SKIP LOCKED
  )) AND state = 2 AND until <= at;
  GET DIAGNOSTICS emptied = ROW_COUNT;
  whole := cur.page + pages >= size;
  UPDATE @.sweeper SET page = CASE WHEN whole THEN 0 ELSE cur.page + pages END,
    next = floor(extract(epoch FROM clock_timestamp()) * 1000) + CASE WHEN whole THEN rest ELSE pause END;
END $$;

-- What proxies must hear of, whoever did it: records that are gone before their end,
-- and completed ones that were changed by hand. The payload is a list of digests, 32
-- digits each, or * for any.
CREATE FUNCTION @.tell_deleted() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  at bigint := floor(extract(epoch FROM clock_timestamp()) * 1000);
  ids uuid[];
BEGIN
  ids := ARRAY(SELECT id FROM gone WHERE expires IS NULL OR expires > at LIMIT 1001);
  IF cardinality(ids) > 1000 THEN
    PERFORM pg_notify('#', '*');
  ELSIF cardinality(ids) > 0 THEN
    PERFORM pg_notify('#', string_agg(replace(id::text, '-', ''), ''))
    FROM (SELECT id, (row_number() OVER () - 1) / 200 AS part FROM unnest(ids) AS i (id)) AS parts GROUP BY part;
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER tell_deleted AFTER DELETE ON @.record REFERENCING OLD TABLE AS gone
FOR EACH STATEMENT EXECUTE FUNCTION @.tell_deleted();

CREATE FUNCTION @.tell_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF OLD.until > floor(extract(epoch FROM clock_timestamp()) * 1000) THEN
    PERFORM pg_notify('#', replace(OLD.id::text, '-', ''));
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER tell_changed AFTER UPDATE ON @.record FOR EACH ROW WHEN (OLD.state = 2)
EXECUTE FUNCTION @.tell_changed();

CREATE FUNCTION @.tell_truncated() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_notify('#', '*');
  RETURN NULL;
END $$;
CREATE TRIGGER tell_truncated AFTER TRUNCATE ON @.record FOR EACH STATEMENT EXECUTE FUNCTION @.tell_truncated();
