"""What are the tables of the record's database, those of the service among them?"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import sqlalchemy as sql

from nas.store.store import ID_LENGTH

SCHEMA_VERSION = 1
"""Tables that are new leave it as it is: an older etnas does not look at them."""

SCHEMA = sql.MetaData()


def _table(name: str, *parts: sql.Column[Any] | sql.Index, **options: Any) -> sql.Table:
    # Prefixed, because MLflow and Optuna may keep tables of their own in the same database.
    return sql.Table(f"nas_{name}", SCHEMA, *parts, **options)


def _column(name: str, kind: Any = sql.Text, *parts: Any, **options: Any) -> sql.Column[Any]:
    return sql.Column(name, kind, *parts, **{"nullable": False, **options})


_KEY = partial(_column, primary_key=True)
_TIME = sql.String(27)
_ID = sql.String(ID_LENGTH)
_SHA256 = sql.String(64)


def _of_search(column: Callable[..., sql.Column[Any]] = _KEY, **options: Any) -> sql.Column[Any]:
    return column("search", _ID, sql.ForeignKey("nas_searches.id"), **options)


META = _table("meta", _KEY("key", sql.String(64)), _column("value"))
SEARCHES = _table(
    "searches",
    _KEY("id", _ID),
    _column("name"),
    _column("spec", sql.JSON),
    _column("state", sql.String(16)),
    _column("phase", sql.String(32)),
    _column("created", _TIME),
    _column("updated", _TIME),
    _column("error", nullable=True),
    _column("warm_start", _ID, nullable=True),
    _column("facts", sql.JSON),
)
LEASES = _table(
    "leases",
    _of_search(),
    _KEY("purpose", sql.String(16)),
    _column("holder", nullable=True),
    _column("attempt", sql.Integer),
    _column("expires", _TIME, nullable=True),
)
TRIALS = _table(
    "trials",
    _of_search(),
    _KEY("role", sql.String(16)),
    _KEY("index", sql.Integer, autoincrement=False),
    _column("architecture_id", sql.String(16), index=True),
    _column("architecture", sql.JSON),
    _column("metrics", sql.JSON),
    _column("state", sql.String(16)),
    _column("reason"),
    _column("seconds", sql.Double),
    _column("label"),
    _column("time", _TIME),
)
EVENTS = _table(
    "events",
    # SQLite counts up only a column of exactly its own type INTEGER.
    _KEY("sequence", sql.BigInteger().with_variant(sql.Integer, "sqlite")),
    _of_search(_column),
    _column("kind", sql.String(64)),
    _column("data", sql.JSON),
    _column("time", _TIME),
    _column("pending", sql.Boolean),
    sql.Index("nas_events_of_search", "search", "sequence"),
    sql.Index("nas_outbox", "pending", "search", "sequence"),
    # Without it SQLite would use the number of a deleted last event again.
    sqlite_autoincrement=True,
)
ARTIFACTS = _table(
    "artifacts",
    _of_search(),
    _KEY("name", sql.String(250)),
    _column("uri"),
    _column("digest", _SHA256),
)
SPEND = _table(
    "spend",
    _of_search(),
    _KEY("phase", sql.String(32)),
    _column("seconds", sql.Double),
    _column("device_seconds", sql.Double),
)

# -- what a service keeps beside them ----------------------------------------------------------

WISHES = _table(
    "wishes",
    _of_search(),
    _column("owner", index=True),
    _column("desired", sql.String(16)),
    _column("changed", _TIME),
)
ATTEMPTS = _table(
    "attempts",
    _of_search(),
    _KEY("number", sql.Integer, autoincrement=False),
    _column("job", sql.String(64), unique=True),
    _column("started", _TIME),
    _column("ended", _TIME, nullable=True),
    _column("outcome"),
)
TOKENS = _table(
    "tokens",
    _KEY("id", _ID),
    _column("name", sql.String(64)),
    _column("scopes", sql.JSON),
    _column("sha256", _SHA256, unique=True),
    _column("created", _TIME),
    _column("expires", _TIME, nullable=True),
    _column("revoked", _TIME, nullable=True),
    # A name is free again once its token is revoked.
    sql.Index(
        "nas_token_names",
        "name",
        unique=True,
        sqlite_where=sql.text("revoked IS NULL"),
        postgresql_where=sql.text("revoked IS NULL"),
    ),
)
REPLIES = _table(
    "replies",
    _KEY("owner"),
    _KEY("key"),
    _column("digest"),
    _column("status", sql.Integer),
    _column("headers", sql.JSON),
    _column("body", sql.JSON(none_as_null=True), nullable=True),
    _column("time", _TIME, index=True),
)
OPERATIONS = _table(
    "operations",
    _KEY("id", _ID),
    _column("kind", sql.String(32)),
    _column("target"),
    _column("owner"),
    _of_search(_column, nullable=True, index=True),
    _column("state", sql.String(16), index=True),
    _column("created", _TIME),
    _column("updated", _TIME),
    _column("request", sql.JSON),
    _column("result", sql.JSON),
    _column("error", nullable=True),
)

SEARCH_ROWS = sql.select(SEARCHES, LEASES.c.attempt, LEASES.c.holder, LEASES.c.expires).join_from(
    SEARCHES, LEASES, (LEASES.c.search == SEARCHES.c.id) & (LEASES.c.purpose == "search")
)
NEWEST = (SEARCHES.c.created.desc(), SEARCHES.c.id.desc())
