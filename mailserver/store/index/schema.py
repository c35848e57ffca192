"""The tables of the index. A different version means: throw it away and build it anew from the files."""

VERSION = 4

TABLES = """
CREATE TABLE folder (
  id INTEGER PRIMARY KEY,
  directory BLOB NOT NULL UNIQUE,
  uidvalidity INTEGER NOT NULL,
  uidnext INTEGER NOT NULL,
  highestmodseq INTEGER NOT NULL,
  first_recent INTEGER NOT NULL,
  rev INTEGER NOT NULL,
  keywords TEXT NOT NULL,
  print TEXT NOT NULL,
  scanned INTEGER NOT NULL,
  born INTEGER NOT NULL,
  floor INTEGER NOT NULL
);
CREATE TABLE message (
  folder INTEGER NOT NULL,
  uid INTEGER NOT NULL,
  rev INTEGER NOT NULL,
  modseq INTEGER NOT NULL,
  file BLOB NOT NULL,
  flags INTEGER NOT NULL,
  keywords TEXT NOT NULL,
  internaldate INTEGER NOT NULL,
  size INTEGER NOT NULL,
  vsize INTEGER NOT NULL,
  savedate INTEGER NOT NULL,
  PRIMARY KEY (folder, uid)
) WITHOUT ROWID;
CREATE INDEX message_rev ON message (folder, rev);
CREATE TABLE expunged (
  folder INTEGER NOT NULL,
  uid INTEGER NOT NULL,
  rev INTEGER NOT NULL,
  modseq INTEGER NOT NULL,
  PRIMARY KEY (folder, uid)
) WITHOUT ROWID;
CREATE INDEX expunged_rev ON expunged (folder, rev);
CREATE TABLE fact (
  folder INTEGER NOT NULL,
  uid INTEGER NOT NULL,
  kind TEXT NOT NULL,
  value BLOB NOT NULL,
  PRIMARY KEY (folder, kind, uid)
) WITHOUT ROWID;
"""
