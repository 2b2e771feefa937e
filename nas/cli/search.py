"""`nas search`, `nas fidelity` and `nas confirm`: run a request in the foreground."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas.cli import remote
from nas.cli.remote import Detach, Server
from nas.cli.tables import terminal
from nas.errors import EtnasError, LeaseLost, SearchStateError, SpecError

if TYPE_CHECKING:
    from rich.console import Console

    from nas.report.result import SearchResult
    from nas.search.spec import SearchSpec

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
        str | None, typer.Option(help="Go on with a stopped search: its id, or `last`.")
    ] = None,
    warm_start: Annotated[
        str | None, typer.Option(help="Begin with an earlier search's front: its id, or `last`.")
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(help="Check request, machine, and that the data are there, and stop."),
    ] = False,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON Schema of a request and stop.")
    ] = False,
    as_json: AsJson = False,
    home: Home = None,
    server: Server = None,
    detach: Detach = False,
) -> None:
    """Search: train or find a supernet, score architectures, report a Pareto front."""
    if schema:
        from nas.search.spec import request_schema

        typer.echo(json.dumps(request_schema(), indent=2))
        return
    if (spec is None) == (resume is None):
        raise SpecError("nas search: give a SPEC.yaml, or --resume ID, not both and not neither")
    if resume is not None and (change or warm_start or dry_run):
        raise SpecError(
            "nas search --resume: a recorded request cannot be changed; --set, --warm-start "
            "and --dry-run go with a SPEC.yaml"
        )
    address = remote.chosen(server, home)
    if detach and (address is None or dry_run):
        raise SpecError("nas search --detach: it goes with --server URL, and not with --dry-run")
    if address is not None:
        remote.search(
            address,
            spec,
            change or [],
            resume=resume,
            warm_start=warm_start,
            dry_run=dry_run,
            detach=detach,
            as_json=as_json,
        )
    elif resume is not None:
        _run(resume, home, as_json)
    else:
        _begin(spec or Path(), change or [], warm_start, dry_run, as_json, home)


def _begin(
    spec: Path,
    change: list[str],
    warm_start: str | None,
    dry_run: bool,
    as_json: bool,
    home: Path | None,
) -> None:
    from nas.search.changes import parse_change
    from nas.search.spec import load_spec

    request = load_spec(spec, dict(map(parse_change, change)))
    if dry_run:
        if warm_start is not None:
            from nas.report.result import earlier_search

            earlier_search(warm_start, home)
        _check(request, as_json, home)
        return
    from nas.report.result import begin

    _run(begin(request, home=home, warm_start=warm_start).id, home, as_json)


FinishedId = Annotated[str, typer.Argument(metavar="ID", help="A finished search's id, or `last`.")]


def fidelity(search_id: FinishedId, as_json: AsJson = False, home: Home = None) -> None:
    """Check the ranking: networks on and below the front, trained alone by a short recipe."""
    from nas.report.result import fidelity_search

    _gated(_foreground(search_id, home, as_json, fidelity_search, "fidelity"))


def confirm(
    search_id: FinishedId,
    despite_gate: Annotated[
        bool,
        typer.Option("--despite-gate", help="Also where gate.on_fail stops at the ranking."),
    ] = False,
    as_json: AsJson = False,
    home: Home = None,
) -> None:
    """Train the best of the front and homogeneous networks at matched FLOPs alone, and compare."""
    from nas.report.result import confirm_search

    work = partial(confirm_search, despite_gate=despite_gate)
    verb = "confirm --despite-gate" if despite_gate else "confirm"
    _foreground(search_id, home, as_json, work, verb)


def _run(search_id: str, home: Path | None, as_json: bool) -> None:
    from nas.report.result import resume_search

    _gated(_foreground(search_id, home, as_json, resume_search, "search --resume"))


def ends(result: SearchResult) -> None:
    """Ends the command where there is no front, or a ranking that is not to be trusted."""
    if not result.front:
        raise typer.Exit(3)
    _gated(result)


def _gated(result: SearchResult) -> None:
    """Ends the command where the request stops at a ranking that is not to be trusted."""
    from nas.report.fidelity import check

    check(result.summary.gate, result.id)


def _foreground(
    search_id: str, home: Path | None, as_json: bool, work: Callable[..., SearchResult], verb: str
) -> SearchResult:
    from nas.cli.progress import Bars
    from nas.report.result import find_search

    console = terminal(stderr=True)
    found = find_search(search_id, home).id
    again = f"go on with: nas {verb} {found}{at(home)}"
    console.print(f"search [bold]{found}[/bold]")
    try:
        with Bars(console) as bars:
            result = work(found, home=home, listener=bars)
    except KeyboardInterrupt:
        console.print(f"interrupted; {again}", markup=False)
        raise
    except (SearchStateError, LeaseLost):
        raise
    except EtnasError as error:
        # Data, disk, record or machine were at fault; the search goes on once they are mended.
        if isinstance(error, OSError | RuntimeError):
            error.add_note(f"what was done is kept; {again}")
        raise
    _show(result, home, as_json)
    if not result.front:
        raise typer.Exit(3)
    return result


def at(home: Path | None) -> str:
    """The option that makes a printed command look into the same folder."""
    return f" --home {shlex.quote(str(home))}" if home else ""


def _check(request: SearchSpec, as_json: bool, home: Path | None) -> None:
    from nas.run.preflight import preflight
    from nas.run.submission import check
    from nas.run.workspace import workspace

    check(request)
    unknown = preflight(request, workspace(home).data_root)
    space = request.search_space
    if as_json:
        typer.echo(json.dumps(request.to_json()))
    else:
        typer.echo(f"valid: {request.name}, space {space.name} of {space.size:.3g} architectures")
    if unknown:
        typer.echo(f"not checked: {unknown}", err=True)


def _show(result: SearchResult, home: Path | None, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(result.to_json()))
        return
    console = terminal()
    show_front(console, result)
    console.print()
    for name, value in _places(result, home).items():
        console.print(f"{name:8} {value}", markup=False, soft_wrap=True)


def _places(result: SearchResult, home: Path | None) -> dict[str, str]:
    """Where everything is, and the command that takes up the best architecture."""
    from nas.store.mlflow import shown
    from nas.store.sql import SqlStore

    place, task = result.place, result.spec.task
    tracking = shown(place.tracking_uri)
    served = tracking.startswith(("http://", "https://"))
    given = (
        f" --option {shlex.quote(f'{name}={json.dumps(value)}')}"
        for name, value in task.options.items()
    )
    report = result.files.get("pareto.html", "")
    best = f"nas pareto {result.id} --best{at(home)} > best.json"
    rows = {
        "left out": result.facts.get("training_examples_left_out", ""),
        "report": report,
        "record": SqlStore(place.record_url).location,
        "mlflow": tracking if served else f"mlflow ui --backend-store-uri {shlex.quote(tracking)}",
        "best": f"{best} && nas cost best.json --task {task.name}{''.join(given)}",
    }
    return {name: text for name, text in rows.items() if text and (result.front or name != "best")}


def show_front(console: Console, result: SearchResult) -> None:
    """The front, the comparison with the controls, and the words that matter most."""
    from nas.cli.tables import show
    from nas.report.halving_shown import halving_tables
    from nas.report.history import told
    from nas.report.table import alone, confirmation, hypervolumes, table
    from nas.report.trust import agreements
    from nas.report.words import brief

    verdict, *others = brief(result.summary)
    console.print(verdict, markup=False, highlight=False)
    console.print()
    show(console, table(result.summary))
    show(console, hypervolumes(result.summary.comparisons))
    show(console, agreements(result.summary))
    show(console, alone(result.summary))
    show(console, confirmation(result.summary))
    for further in halving_tables(result.summary):
        show(console, further)
    for sentence in (*others, *told(result.summary, result.history)):
        console.print(sentence, markup=False, highlight=False)


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command()(search)
    app.command()(fidelity)
    app.command()(confirm)
