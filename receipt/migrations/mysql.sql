-- Receipts of executed operations, and the attempts that were voided. VARBINARY, since
-- comparisons of text leave case or trailing spaces out of account.
CREATE TABLE IF NOT EXISTS idempotency_receipts (
  attempt  VARBINARY(64)   NOT NULL, -- the token of the attempt
  op_scope VARBINARY(1024) NOT NULL,
  op_key   VARBINARY(255)  NOT NULL,
  executed TINYINT,                  -- 1, or NULL for an attempt that was voided
  status   INT,
  fields   MEDIUMTEXT,               -- header fields of the response, as JSON
  body     LONGBLOB,
  made     BIGINT          NOT NULL, -- milliseconds since 1970
  PRIMARY KEY (attempt),
  UNIQUE KEY (op_scope, op_key, executed), -- at most one execution of a key: NULLs are distinct
  KEY (made)
) ENGINE = InnoDB;
