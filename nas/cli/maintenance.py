"""`nas data`, `nas store` and `nas doctor`: what a search stands on."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from nas.cli.cost import Options, configured
from nas.cli.search import AsJson, Home
from nas.errors import EtnasError, PartNotInstalled, StoreUnavailable

data = typer.Typer(help="Bring data sets to where tasks look for them.", no_args_is_help=True)
store = typer.Typer(help="Look after the record and MLflow.", no_args_is_help=True)

PACKAGES = (
    *("torch", "torchvision", "ray", "mlflow", "optuna", "scikit-learn", "lightgbm"),
    *("safetensors", "plotly"),
)


@data.command()
def prepare(
    name: Annotated[str, typer.Argument(help="A task: cifar10, digits, ...")],
    option: Options = None,
) -> None:
    """Download a task's data where there is a network; say what is missing where there is none."""
    from nas import catalog
    from nas.task.task import data_root

    declared = catalog.TASKS.load(name, "nas data prepare")
    typer.echo(declared.prepare(configured(name, option), data_root()))


@store.command()
def rebuild(
    search_id: Annotated[str, typer.Argument(metavar="ID", help="A search's id.")],
    record: Annotated[
        bool, typer.Option("--record", help="Restore the record from MLflow instead.")
    ] = False,
    home: Home = None,
) -> None:
    """Make MLflow complete from the record, or the record from MLflow."""
    from nas.report.result import check_installed, opened
    from nas.run.lease import holder, holder_alive
    from nas.run.workspace import workspace
    from nas.store.mlflow import shown
    from nas.store.projection import project, rebuild_record
    from nas.store.sql import SqlStore

    place = workspace(home)
    if record:
        if _missing(place.tracking_uri):
            raise StoreUnavailable(
                f"MLflow {place.tracking_uri}: no such database; --home, NAS_HOME or "
                "MLFLOW_TRACKING_URI name another one"
            )
        kept = SqlStore(place.record_url)
        restored = rebuild_record(kept, place.tracking_uri, search_id)
        typer.echo(f"record: search {restored.id} has {kept.count(restored.id)} trials")
        return
    kept = opened(place, search_id)
    search = kept.get(search_id)
    check_installed(search, architectures_alone=True)
    project(
        kept,
        place.tracking_uri,
        search=search.id,
        from_start=True,
        holder=holder(),
        holder_alive=holder_alive,
    )
    typer.echo(f"MLflow at {shown(place.tracking_uri)} has search {search.id}")


def doctor(as_json: AsJson = False, home: Home = None) -> None:
    """Check the installation, the record, MLflow's store, data and devices; exit 1 if one fails."""
    found = {name: _verdict(check) for name, check in _checks(home).items()}
    if as_json:
        typer.echo(
            json.dumps({name: {"ok": ok, "text": text} for name, (ok, text) in found.items()})
        )
    else:
        for name, (ok, text) in found.items():
            typer.echo(f"{'ok  ' if ok else 'FAIL'} {name:12} {text}")
    if not all(ok for ok, _ in found.values()):
        raise typer.Exit(1)


def _verdict(check: Callable[[], str]) -> tuple[bool, str]:
    try:
        return True, check()
    except (EtnasError, ImportError, OSError) as error:
        return False, str(error)


def _checks(home: Path | None) -> dict[str, Callable[[], str]]:
    return {
        "packages": _packages,
        "record": lambda: _record(home),
        "mlflow": lambda: _mlflow(home),
        "work folder": lambda: _folder(home),
        "data": _data,
        "devices": _devices,
    }


def _packages() -> str:
    missing, found = [], []
    for name in PACKAGES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        raise ImportError(f"missing {', '.join(missing)}: pip install 'etnas[engine]'")
    return ", ".join(found)


def _record(home: Path | None) -> str:
    from nas.run.workspace import workspace
    from nas.search.installed import named_by, not_installed
    from nas.store.sql import SqlStore

    url = workspace(home).record_url
    kept = SqlStore(url)
    if kept.missing:
        return _none_yet(url, kept.location)
    searches = kept.searches()
    said = f"{len(searches)} searches in {kept.location}"
    missing = {each.id: not_installed(named_by(each.spec)) for each in searches}
    if any(missing.values()):
        named = (f"{search} names {', '.join(parts)}" for search, parts in missing.items() if parts)
        raise PartNotInstalled(
            f"{said}, some with parts that are not installed: {'; '.join(named)}"
        )
    return said


def _mlflow(home: Path | None) -> str:
    from nas.run.workspace import workspace
    from nas.store.mlflow import reaching, shown

    uri = workspace(home).tracking_uri
    if _missing(uri):
        return _none_yet(uri, shown(uri))
    with reaching(uri) as tracking:
        return f"{len(tracking.experiments())} experiments in {shown(uri)}"


def _missing(url: str) -> bool:
    """Whether this is an SQLite database that is not there: to open one would make it."""
    from nas.store.database import sqlite_file

    file = sqlite_file(url)
    return file is not None and not file.exists()


def _none_yet(url: str, shown: str) -> str:
    from nas.store.database import sqlite_file

    file = sqlite_file(url)
    if file is not None:
        _writable(file.absolute().parent)
    return f"none yet, will be {shown}"


def _writable(folder: Path) -> Path:
    """The folder, or the nearest one above that is there; raises `OSError` if none can be made."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        tempfile.TemporaryFile(dir=existing).close()
    except OSError as error:
        raise PermissionError(f"{folder} cannot be written: {error.strerror}") from error
    return existing


def _folder(home: Path | None) -> str:
    from nas.run.workspace import workspace

    root = workspace(home).root
    existing = _writable(root)
    return f"{root}, {shutil.disk_usage(existing).free / 2**30:.0f} GiB free"


def _data() -> str:
    from nas.task.task import data_root

    root = data_root().resolve()
    within = root.iterdir() if root.is_dir() else ()
    found = (path for path in within if not path.name.startswith("."))
    held = sorted(path.name for path in found if not path.is_dir() or any(path.iterdir()))
    none = "nothing (nas data prepare cifar10; digits and numbers_en_de need none)"
    return f"{root}: {', '.join(held) or none}"


def _devices() -> str:
    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return f"{len(os.sched_getaffinity(0))} cores, {', '.join(gpus) or 'no GPU'}"


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.add_typer(data, name="data")
    app.add_typer(store, name="store")
    app.command()(doctor)
