"""The tables of the database, the same for SQLite and PostgreSQL. Times are milliseconds since 1970, UTC."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

VERSION = 1
"""Of the tables below. A change to one of them is a new version and a migration in `store.py`."""

metadata = MetaData()

version = Table("turnguard_version", metadata, Column("version", Integer, primary_key=True, autoincrement=False))

policies = Table(
    "policies",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("edition", String(32), primary_key=True, comment="of file, text and lines: the same rules, moved about"),
    Column("created", BigInteger, nullable=False),
    Column("name", String(200), comment="under `policies:`; null for the policy of the file itself"),
    Column("file", Text),
    Column("text", Text, nullable=False, comment="the policy's section of the YAML, as it was written"),
    Column("first", Integer, nullable=False, comment="the line of the file at which the text begins"),
    Column("lines", Text, nullable=False, comment="JSON: the line of each path"),
    Column("source", Text, nullable=False, comment="JSON: the rules, with the values from the environment"),
    Column("calibration", Text, comment="the file that the policy names"),
    Column("shadow", String(64), comment="the digest of its shadow"),
    Column("shadow_edition", String(32)),
)

records = Table(
    "records",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("time", BigInteger, nullable=False),
    Column("event", String(16), nullable=False, server_default="check", comment="check, or what a reviewer did"),
    Column("stage", String(16), nullable=False),
    Column("action", String(8), nullable=False),
    Column("asked", String(8), nullable=False, comment="the action of the rules; `block` may be a rewrite that failed"),
    Column("shadow", String(8), comment="what the shadow policy would have done"),
    Column("failed", Boolean, nullable=False),
    Column("reduced", Boolean, nullable=False),
    Column("complete", Boolean, nullable=False),
    Column("remembered", Boolean, nullable=False),
    Column("rule", Text, comment="the first rule that decided"),
    Column("category", Text, comment="its category"),
    Column("latency", Float, nullable=False, comment="seconds, from the step to the decision"),
    Column("policy", String(64), nullable=False),
    Column("edition", String(32)),
    Column("model", Text),
    Column("family", String(64)),
    Column("user", Text),
    Column("thread", Text),
    Column("request", Text),
    Column("tenant", Text),
    Column("trace", String(32)),
    Column("span", String(16)),
    Column("language", Text, comment="as it was given, never a guess"),
    Column("metadata", Text, comment="JSON: the rest of the step's metadata"),
    Column("parts", Text, comment="JSON: the kind and the keyed digest of each part"),
    Column("reasons", Text, comment="JSON: each rule that fired"),
    Column("shadow_reasons", Text, comment="JSON: the same of the shadow policy"),
    Column("evidence", Text, comment="JSON: judgements and coverage, from which is decided"),
    Column("content", LargeBinary, comment="JSON, encrypted"),
)
# Few indexes: in one over values without an order, each record writes a page of its own. A person's records of a day
# are found by their time.
Index("records_time", records.c.time)
_traced = records.c.trace.is_not(None)
Index("records_trace", records.c.trace, sqlite_where=_traced, postgresql_where=_traced)

reviews = Table(
    "reviews",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("created", BigInteger, nullable=False),
    Column("expires", BigInteger, nullable=False),
    Column("status", String(10), nullable=False, comment="waiting, approved, rejected or expired"),
    Column("digest", String(64), nullable=False, comment="of the content, keyed: an answer is bound to it"),
    Column("record", String(40), nullable=False),
    Column("stage", String(16), nullable=False),
    Column("tenant", Text),
    Column("reasons", Text, nullable=False, comment="JSON: each rule that fired"),
    Column("content", LargeBinary, comment="JSON, encrypted"),
    Column("answered", BigInteger),
    Column("by", Text),
    Column("note", Text),
)
Index("reviews_status", reviews.c.status, reviews.c.expires)

losses = Table(
    "losses",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("time", BigInteger, nullable=False),
    Column("count", BigInteger, nullable=False, comment="records that a process could not write"),
    Column("cause", Text, nullable=False),
)
