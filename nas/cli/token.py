"""`nas token`: who may ask the service that serves this record, and for what?"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from nas.cli.search import AsJson, Home
from nas.cli.tables import show, terminal
from nas.errors import TokenNotFound

if TYPE_CHECKING:
    from nas.store.serving import Scope, Token
    from nas.store.serving_sql import ServingSqlStore

token = typer.Typer(
    help="Make, list and end the tokens that a service lets in.", no_args_is_help=True
)
DAY = 86_400
MOST_DAYS = 36_500


@token.command()
def create(
    name: Annotated[str, typer.Argument(help="Whose it is: the owner of what is submitted by it.")],
    scope: Annotated[
        list[str],
        typer.Option(
            help="read; submit, for searches of one's own; admin, for everybody's. May be repeated."
        ),
    ],
    days: Annotated[
        int | None,
        typer.Option(min=1, max=MOST_DAYS, help="Days until it expires; never by default."),
    ] = None,
    home: Home = None,
) -> None:
    """Make a token and print its secret, this once: it is kept nowhere."""
    from nas.run.submission import make_folder
    from nas.run.workspace import workspace
    from nas.store.store import rfc3339

    make_folder(workspace(home))
    expires = None if days is None else rfc3339(time.time() + days * DAY)
    with _kept(home) as store:
        made, secret = store.add_token(name, cast("list[Scope]", scope), expires=expires)
    until = f"until {made.expires}" if made.expires else "until it is revoked"
    said = f"token {made.name} for {', '.join(made.scopes)}, {until}; it is shown this once"
    terminal(stderr=True).print(said, markup=False)
    typer.echo(secret)


@token.command("list")
def list_tokens(as_json: AsJson = False, home: Home = None) -> None:
    """List the tokens, also those that are not valid any more, the oldest first."""
    from nas.report.table import Table
    from nas.store.store import rfc3339

    if _missing(home):
        found = []
    else:
        with _kept(home) as store:
            found = store.tokens()
    now = rfc3339(time.time())
    if as_json:
        typer.echo(json.dumps([asdict(each) | {"state": _state(each, now)} for each in found]))
    elif found:
        columns = ("id", "name", "scopes", "state", "created (UTC)", "expires (UTC)")
        rows = tuple(
            (
                each.id,
                each.name,
                ", ".join(each.scopes),
                _state(each, now),
                _minute(each.created),
                _minute(each.expires or "never"),
            )
            for each in found
        )
        spare = (("created (UTC)",), ("id",))
        show(terminal(), Table("Tokens", columns, rows, spare))
    else:
        typer.echo("no token yet; `nas token create NAME --scope read` makes one.")


@token.command()
def revoke(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A token's name, or its id.")],
    home: Home = None,
) -> None:
    """End a token at once."""
    if _missing(home):
        raise TokenNotFound(f"no token {name!r}: there is no record yet; --home names another one")
    with _kept(home) as store:
        ended = store.revoke_token(name)
    typer.echo(f"token {ended.name} ({ended.id}) is revoked")


def _state(each: Token, now: str) -> str:
    if each.revoked is not None:
        return "revoked"
    return "expired" if each.expires is not None and each.expires <= now else "valid"


def _minute(moment: str) -> str:
    return moment[:16].replace("T", " ")


@contextmanager
def _kept(home: Path | None) -> Iterator[ServingSqlStore]:
    from nas.run.workspace import workspace
    from nas.store.serving_sql import ServingSqlStore

    store = ServingSqlStore(workspace(home).record_url)
    try:
        yield store
    finally:
        store.close()


def _missing(home: Path | None) -> bool:
    """Whether the record is an SQLite database that is not there: to open one would make it."""
    from nas.run.workspace import workspace
    from nas.store.database import sqlite_file

    file = sqlite_file(workspace(home).record_url)
    return file is not None and not file.exists()


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.add_typer(token, name="token")
