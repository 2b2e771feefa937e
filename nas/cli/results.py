"""`nas pareto` and `nas compare`: what searches found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from nas.cli.search import AsJson, Home, show_front
from nas.errors import NothingFeasible

Id = Annotated[str, typer.Argument(metavar="ID", help="A search's id, or its beginning.")]


def pareto(
    search_id: Id,
    constraint: Annotated[
        list[str] | None,
        typer.Option(help="Only members that keep it: 'flops <= 2e7'. May be repeated."),
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write the report page there.")] = None,
    best: Annotated[
        bool, typer.Option("--best", help="Print the architecture with the best first objective.")
    ] = False,
    as_json: AsJson = False,
    home: Home = None,
) -> None:
    """Show a search's Pareto front, also of one that is still running."""
    from nas.report.result import load_result

    result = load_result(search_id, home).constrained(constraint or [])
    if html is not None:
        result.write_page(html)
    if not result.front:
        raise NothingFeasible(f"search {result.id}: no trial so far meets the constraints")
    if best:
        typer.echo(json.dumps(result.front[0]["architecture"]))
    elif as_json:
        typer.echo(json.dumps(result.to_json()))
    else:
        show_front(Console(), result)


def compare(one: Id, other: Id, as_json: AsJson = False, home: Home = None) -> None:
    """Set two searches' fronts side by side, at equal numbers of trials."""
    from nas.cli.tables import drawn
    from nas.report.compare import compare_fronts
    from nas.report.result import load_result
    from nas.report.table import hypervolumes, table

    first, second = load_result(one, home), load_result(other, home)
    compared = compare_fronts((first.spec, first.trials), (second.spec, second.trials))
    if as_json:
        typer.echo(json.dumps(compared.to_json()))
        return
    console = Console()
    for result in (first, second):
        console.print(f"search {result.id}", highlight=False)
        console.print(drawn(table(result.summary)))
    console.print(drawn(hypervolumes([compared.comparison], "first")))
    for sentence in compared.words:
        console.print(sentence, markup=False, highlight=False)


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command()(pareto)
    app.command()(compare)
