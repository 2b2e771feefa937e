"""`nas list`, `nas pareto` and `nas compare`: which searches there are, and what they found."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas.cli import remote
from nas.cli.remote import Id, Server
from nas.cli.search import AsJson, Home, show_front
from nas.cli.tables import show, terminal
from nas.errors import NothingFeasible, SpecError

if TYPE_CHECKING:
    from nas.report.result import SearchResult


def list_recorded(as_json: AsJson = False, home: Home = None, server: Server = None) -> None:
    """List the recorded searches, the newest first."""
    if address := remote.chosen(server, home):
        remote.list_searches(address, as_json)
        return
    from nas.report.listing import list_searches, listing
    from nas.run.workspace import workspace
    from nas.store.sql import SqlStore

    found = list_searches(home)
    if as_json:
        typer.echo(json.dumps([asdict(each) for each in found]))
    elif found:
        show(terminal(), listing(found))
    else:
        place = SqlStore(workspace(home).record_url).location
        typer.echo(f"no search yet in {place}; `nas search SPEC.yaml` makes one.")


def pareto(
    search_id: Id,
    constraint: Annotated[
        list[str] | None,
        typer.Option(help="Only members that keep it: 'flops <= 2e7'. May be repeated."),
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write the report page there.")] = None,
    best: Annotated[
        bool,
        typer.Option(
            "--best",
            help="Print the best architecture by the first objective: of the networks trained to "
            "the end, or of the front where none was.",
        ),
    ] = False,
    as_json: AsJson = False,
    home: Home = None,
    server: Server = None,
) -> None:
    """Show a search's Pareto front, also of one that is still running."""
    result = _found(search_id, home, server).constrained(constraint or [])
    if html is not None:
        _write(html, result)
    if as_json and not best:
        typer.echo(json.dumps(result.to_json()))
    if not result.front:
        raise NothingFeasible(_nothing(result))
    if best:
        said = result.trained_best
        if said is None and result.summary.gate.verdict == "failed":
            warning = f"warning: {result.summary.gate.sentence}"
            terminal(stderr=True).print(warning, markup=False)
        elif said is not None:
            note = f"{said.id}: the best of the networks that were trained to the end"
            terminal(stderr=True).print(note, markup=False)
        typer.echo(json.dumps(said.to_json() if said else result.front[0]["architecture"]))
    elif not as_json:
        show_front(terminal(), result)


def _found(search_id: str, home: Path | None, server: str | None) -> SearchResult:
    if address := remote.chosen(server, home):
        return remote.load_result(address, search_id)
    from nas.report.result import load_result

    return load_result(search_id, home)


def _write(path: Path, result: SearchResult) -> None:
    try:
        result.write_page(path)
    except OSError as error:
        raise SpecError(f"--html {path}: cannot be written: {error.strerror}") from error


def _nothing(result: SearchResult) -> str:
    limits = "; ".join(result.summary.constraints) or "none"
    scored = result.summary.count("search").succeeded
    return (
        f"search {result.id} ({result.state}) has no front: {scored} scored architectures, none "
        f"meets the constraints ({limits})"
    )


def compare(one: Id, other: Id, as_json: AsJson = False, home: Home = None) -> None:
    """Set two searches' fronts side by side, at equal numbers of trials."""
    from nas.report.compare import compare_fronts
    from nas.report.result import load_result
    from nas.report.table import hypervolumes, table

    first, second = load_result(one, home), load_result(other, home)
    compared = compare_fronts((first.spec, first.trials), (second.spec, second.trials))
    if as_json:
        typer.echo(json.dumps(compared.to_json() | {"words": compared.words}))
        return
    console = terminal()
    for place, result in (("first", first), ("second", second)):
        strategy = f"{result.spec.name}, by {result.spec.strategy.name}"
        console.print(f"{place}: search {result.id}, {strategy}", markup=False)
        console.print(result.summary.gate.sentence, markup=False, highlight=False)
        show(console, table(result.summary))
    show(console, hypervolumes([compared.comparison], "first", "second"))
    for sentence in compared.words:
        console.print(sentence, markup=False)


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command("list")(list_recorded)
    app.command()(pareto)
    app.command()(compare)
