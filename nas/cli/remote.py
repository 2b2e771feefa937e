"""The same against a service: `--server URL`, and the verbs that only a service knows."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas.cli.tables import show, terminal
from nas.errors import EtnasError, NotAllowed, SearchFailed, SpecError

if TYPE_CHECKING:
    from rich.console import Console

    from nas.client.answers import DryRun, ListedSearch, Search, Trial
    from nas.client.client import Client
    from nas.report.result import SearchResult
    from nas.report.table import Table
    from nas.search.trial import Trial as OurTrial

Server = Annotated[
    str | None,
    typer.Option(
        metavar="URL", help="Ask this service instead (NAS_SERVER), with the token in NAS_TOKEN."
    ),
]
Detach = Annotated[
    bool, typer.Option("--detach", help="With --server: submit, print the id, and stop.")
]
Id = Annotated[
    str, typer.Argument(metavar="ID", help="A search's id, its beginning, or `last`: the newest.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]

# What a log may hold and a terminal would take for orders.
_ORDERS = re.compile(r"\x1b\[[0-9;:?]*[ -/]*[@-~]|[\x00-\x08\x0a-\x1f\x7f-\x9f]")


def chosen(server: str | None, home: Path | None = None) -> str | None:
    """The service to ask: --server, else NAS_SERVER where no --home says otherwise."""
    if server is not None and home is not None:
        raise SpecError("--server and --home: a service has a home of its own; give one of both")
    return server or (None if home is not None else os.environ.get("NAS_SERVER")) or None


@contextmanager
def asking(server: str) -> Iterator[Client]:
    """A client with the token in NAS_TOKEN, until the block ends."""
    from nas.client.client import Client

    try:
        with Client(server, os.environ.get("NAS_TOKEN") or None) as client:
            yield client
    except NotAllowed as error:
        error.add_note(
            "NAS_TOKEN is the token that is sent; `nas token create` on the service's machine "
            "makes one"
        )
        raise


# -- nas search ------------------------------------------------------------------------------------


def search(
    server: str,
    spec: Path | None,
    change: Sequence[str],
    *,
    resume: str | None,
    warm_start: str | None,
    dry_run: bool,
    detach: bool,
    as_json: bool,
) -> None:
    """Submits a request, or takes up a submitted search, and follows it to its end."""
    from nas.search.changes import parse_change

    changes = dict(map(parse_change, change))
    with asking(server) as client:
        if dry_run:
            _say_valid(client.check(spec or Path(), changes, warm_start=warm_start), as_json)
            return
        if resume is None:
            begun = client.submit(spec or Path(), changes, warm_start=warm_start)
        else:
            begun = _taken_up(client, resume)
        console = terminal(stderr=True)
        again = f"nas search --resume {begun.id}{_at(client)}"
        if detach:
            said = f"search {begun.id} runs at {client.url}; follow it with: {again}"
            console.print(said, markup=False)
            typer.echo(json.dumps(begun.model_dump(mode="json")) if as_json else begun.id)
            return
        console.print(f"search [bold]{begun.id}[/bold]")
        ended = _followed(client, begun.id, console, again)
        _check_end(client, ended)
        _show(client, _result(client, ended.id), as_json)


def _taken_up(client: Client, search_id: str) -> ListedSearch:
    found = client.get(search_id)
    return client.resume(found.id) if "resume" in found.allowed else found


def _followed(client: Client, search_id: str, console: Console, again: str) -> Search:
    """Shows how far a search is until it has ended, or somebody has paused it."""
    from nas.cli.progress import Bars
    from nas.client.waiting import progress_of

    shown: dict[str, tuple[int, int]] = {}
    try:
        with Bars(console) as bars:

            def tell(found: Search) -> None:
                for step in progress_of(found):
                    if shown.get(step.phase) != (step.done, step.total):
                        shown[step.phase] = step.done, step.total
                        bars(step)

            return client.wait(search_id, tell, until=_rests)
    except KeyboardInterrupt:
        stop = f"nas cancel {search_id}{_at(client)}"
        console.print(
            f"detached; search {search_id} goes on at {client.url}; follow it again with: {again}; "
            f"end it with: {stop}",
            markup=False,
        )
        raise
    except EtnasError as error:
        error.add_note(f"search {search_id} goes on without this; follow it again with: {again}")
        raise


def _rests(found: Search) -> bool:
    return found.ended or (found.state == "paused" and found.desired == "pause")


def _check_end(client: Client, ended: Search) -> None:
    if ended.state == "paused":
        again = f"nas search --resume {ended.id}{_at(client)}"
        said = f"search {ended.id} was paused; go on with: {again}"
        terminal(stderr=True).print(said, markup=False)
        raise KeyboardInterrupt
    if ended.state == "failed":
        error = SearchFailed(f"search {ended.id} failed: {ended.error or 'it says no reason'}")
        error.add_note(f"what it found: nas pareto {ended.id}{_at(client)}")
        raise error
    if ended.state == "cancelled":
        raise SearchFailed(f"search {ended.id} was cancelled; its trials are kept")


def _say_valid(found: DryRun, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(found.spec))
        return
    space = found.spec["space"]["name"]
    typer.echo(f"valid: {found.spec['name']}, space {space} of {found.size:.3g} architectures")
    for name, cost in found.costs.items():
        typer.echo(f"{name}: {cost.smallest:.4g} to {cost.largest:.4g}")
    if found.feasible is not None:
        share, samples = found.feasible.share, found.feasible.samples
        typer.echo(f"feasible: {share:.1%} of {samples} random architectures")


def _show(client: Client, result: SearchResult, as_json: bool) -> None:
    from nas.cli.search import ends, show_front

    if as_json:
        typer.echo(json.dumps(result.to_json()))
    else:
        console = terminal()
        show_front(console, result)
        console.print()
        best = f"nas pareto {result.id} --best{_at(client)} > best.json"
        rows = {"page": f"{client.url}/searches/{result.id}", "best": best if result.front else ""}
        for name, value in rows.items():
            if value:
                console.print(f"{name:8} {value}", markup=False, soft_wrap=True)
    ends(result)


# -- what was found --------------------------------------------------------------------------------


def list_searches(server: str, as_json: bool) -> None:
    """Lists a service's searches, the newest first."""
    with asking(server) as client:
        found = list(client.searches())
        if as_json:
            typer.echo(json.dumps([each.model_dump(mode="json") for each in found]))
        elif found:
            show(terminal(), _listing(found))
        else:
            typer.echo(f"no search yet at {client.url}; `nas search SPEC.yaml{_at(client)}`")


def _listing(found: Sequence[ListedSearch]) -> Table:
    from nas.report.table import Table

    rows = tuple(
        (
            each.id,
            each.name,
            each.state,
            each.phase,
            each.owner,
            each.task,
            each.space,
            _tried(each),
            each.created[:16].replace("T", " "),
        )
        for each in found
    )
    columns = ("id", "name", "state", "phase", "owner", "task", "space", "tried", "created (UTC)")
    spare = (("phase",), ("created (UTC)",), ("task",), ("owner",), ("space",))
    return Table("Searches", columns, rows, spare)


def _tried(each: ListedSearch) -> str:
    counted = each.progress.get("search")
    return "" if counted is None else f"{counted.done} of {counted.planned}"


def load_result(server: str, search_id: str) -> SearchResult:
    """A search of a service as `nas.report.result` has those of this machine."""
    with asking(server) as client:
        return _result(client, search_id)


def _result(client: Client, search_id: str) -> SearchResult:
    from nas.report.result import SearchResult, check_installed, provenance
    from nas.run.workspace import workspace
    from nas.search.spec import load_spec
    from nas.store.store import SearchRecord

    found = client.get(search_id)
    record = SearchRecord(
        found.id,
        found.name,
        found.spec,
        # A newer service may have states that this version has no name of.
        found.state,  # type: ignore[arg-type]
        found.created,
        found.updated,
        found.phase,
        len(found.attempts),
        found.error,
        found.warm_start,
        found.facts,
    )
    check_installed(record)
    trials = tuple(_trial(each) for each in client.trials(found.id))
    files = {
        each.name: f"{client.url}{each.links.get('self', '')}"
        for each in client.artifacts(found.id)
    }
    return SearchResult(
        found.id,
        found.state,
        load_spec(found.spec),
        trials,
        files,
        workspace(),
        provenance(record),
        recorded=found.facts,
    )


def _trial(found: Trial) -> OurTrial:
    from nas.search.trial import Measurement
    from nas.search.trial import Trial as Made
    from nas.space.architecture import Architecture

    measured = Measurement(found.metrics, found.state, found.reason, found.seconds)  # type: ignore[arg-type]
    built = Architecture.from_json(found.architecture)
    return Made(found.role, found.index, built, measured, found.label)  # type: ignore[arg-type]


# -- verbs -----------------------------------------------------------------------------------------


def pause(search_id: Id, server: Server = None, as_json: AsJson = False) -> None:
    """Pause a service's search: what it has done is kept, its machines are given back."""
    _act("pause", search_id, server, as_json)


def resume(search_id: Id, server: Server = None, as_json: AsJson = False) -> None:
    """Go on with a paused search of a service."""
    _act("resume", search_id, server, as_json)


def cancel(search_id: Id, server: Server = None, as_json: AsJson = False) -> None:
    """Cancel a service's search for good; its trials are kept."""
    _act("cancel", search_id, server, as_json)


def _act(verb: str, search_id: str, server: str | None, as_json: bool) -> None:
    with asking(_needed(server, f"nas {verb}")) as client:
        found: ListedSearch = getattr(client, verb)(search_id)
        if as_json:
            typer.echo(json.dumps(found.model_dump(mode="json")))
        else:
            typer.echo(f"search {found.id} is {found.state}; {found.desired} is wanted of it")


def logs(search_id: Id, server: Server = None) -> None:
    """Show what a service's jobs for a search write, until it has ended; Ctrl-C stops looking."""
    with asking(_needed(server, "nas logs")) as client:
        for line in client.logs(search_id):
            typer.echo(_ORDERS.sub("", line.text))


def _needed(server: str | None, command: str) -> str:
    address = chosen(server)
    if address is None:
        raise SpecError(f"{command}: --server URL or NAS_SERVER is needed: a service's searches")
    return address


def _at(client: Client) -> str:
    """The option that makes a printed command ask the same service."""
    return f" --server {shlex.quote(client.url)}"


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    for command in (pause, resume, cancel, logs):
        app.command()(command)
