"""`nas search` and `nas confirm`: run a request in the foreground."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from nas.errors import SpecError

if TYPE_CHECKING:
    from nas.report.result import SearchResult

Home = Annotated[
    Path | None,
    typer.Option(help="Folder of the record, supernets and reports (NAS_HOME; ./nas-work)."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


def search(
    spec: Annotated[Path | None, typer.Argument(help="The request, a YAML file.")] = None,
    change: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change one field: budget.trials=50. May be repeated."),
    ] = None,
    resume: Annotated[
        str | None, typer.Option(help="Go on with a recorded search that was stopped.")
    ] = None,
    warm_start: Annotated[
        str | None, typer.Option(help="Begin with the architectures of an earlier search.")
    ] = None,
    dry_run: Annotated[bool, typer.Option(help="Check the request and stop.")] = False,
    as_json: AsJson = False,
    home: Home = None,
) -> None:
    """Search: train or find a supernet, score architectures, report a Pareto front."""
    from nas.run.workspace import workspace
    from nas.search.spec import load_spec, parse_change

    if (spec is None) == (resume is None):
        raise SpecError("nas search: give a SPEC.yaml, or --resume ID, not both and not neither")
    if resume is not None:
        if change or warm_start:
            raise SpecError("nas search --resume: a recorded request cannot be changed")
        _run(resume, home, as_json)
        return
    request = load_spec(spec or Path(), dict(map(parse_change, change or [])))
    if dry_run:
        _say_valid(request, as_json)
        return
    from nas.run.search import start

    record = start(request, workspace(home), warm_start=warm_start)
    _run(record.id, home, as_json)


def confirm(
    search_id: Annotated[str, typer.Argument(metavar="ID", help="A finished search.")],
    as_json: AsJson = False,
    home: Home = None,
) -> None:
    """Train front members and homogeneous networks at matched FLOPs alone, and compare."""
    from nas.report.result import confirm_search

    _foreground(search_id, home, as_json, confirm_search, "confirm")


def _run(search_id: str, home: Path | None, as_json: bool) -> None:
    from nas.report.result import resume_search

    _foreground(search_id, home, as_json, resume_search, "search --resume")


def _foreground(search_id: str, home: Path | None, as_json: bool, work: object, again: str) -> None:
    from nas.cli.progress import Bars

    console = Console(stderr=True, highlight=False)
    console.print(f"search [bold]{search_id}[/bold]")
    try:
        with Bars(console) as bars:
            result: SearchResult = work(search_id, home=home, listener=bars)  # type: ignore[operator]
    except KeyboardInterrupt:
        where = f" --home {home}" if home else ""
        console.print(f"interrupted; go on with: nas {again} {search_id}{where}")
        raise
    _show(result, as_json)
    if not result.front:
        raise typer.Exit(3)


def _say_valid(request: object, as_json: bool) -> None:
    from nas.search.spec import SearchSpec

    assert isinstance(request, SearchSpec)
    space = request.search_space
    if as_json:
        typer.echo(json.dumps(request.to_json()))
    else:
        typer.echo(f"valid: {request.name}, space {space.name} of {space.size:.3g} architectures")


def _show(result: SearchResult, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(result.to_json()))
        return
    console = Console()
    show_front(console, result)
    place = result.place
    best = f"nas pareto {result.id} --best > best.json"
    rows = {
        "report": result.files.get("pareto.html", ""),
        "record": place.record_url,
        "mlflow": f"mlflow ui --backend-store-uri {place.tracking_uri}",
        "best": f"{best} && nas cost best.json --task {result.spec.task.name}",
    }
    for name, value in rows.items():
        console.print(f"{name:8} {value}", markup=False, highlight=False, soft_wrap=True)


def show_front(console: Console, result: SearchResult) -> None:
    """The front, the comparison with the controls, and what follows in words."""
    from nas.cli.tables import drawn
    from nas.report.table import hypervolumes, table

    console.print(drawn(table(result.summary)))
    console.print(drawn(hypervolumes(result.summary.comparisons)))
    for sentence in result.words:
        console.print(sentence, markup=False, highlight=False)


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command()(search)
    app.command()(confirm)
