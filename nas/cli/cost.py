"""`nas cost`: what an architecture costs on a task."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from nas.cli.search import AsJson
from nas.errors import MachineUnavailable, SpecError

if TYPE_CHECKING:
    from nas.model.network import StandaloneNetwork
    from nas.search.workload import Workload
    from nas.space.architecture import Architecture
    from nas.space.task_shape import TaskShape

Options = Annotated[
    list[str] | None, typer.Option("--option", help="A task option: side=224. May be repeated.")
]


def cost(
    architecture: Annotated[Path, typer.Argument(help="An architecture, a JSON file.")],
    task: Annotated[str, typer.Option(help="The task whose shapes it is costed on.")],
    option: Options = None,
    latency: Annotated[bool, typer.Option("--latency", help="Measure latency too.")] = False,
    measure: Annotated[
        list[str] | None, typer.Option(help="Another cost to measure. May be repeated.")
    ] = None,
    convention: Annotated[
        Literal["all", "hat"],
        typer.Option(help="What is counted: all, or the layers at length 30 as HAT publishes."),
    ] = "all",
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    batch: Annotated[int, typer.Option(min=1, help="Images or sentences a pass.")] = 1,
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "float32",
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    beam: Annotated[int, typer.Option(min=1, help="Hypotheses a sentence.")] = 4,
    source_length: Annotated[int, typer.Option(min=1, help="Source tokens, for latency.")] = 30,
    target_length: Annotated[int, typer.Option(min=1, help="Target tokens, for latency.")] = 30,
    repetitions: Annotated[int, typer.Option(min=1, help="Timed passes.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Exact costs, FLOPs by part, and what is measured on request."""
    from nas import catalog
    from nas.cost.analytic import by_site, flops_by_group, hat_convention
    from nas.cost.cost import exact_costs
    from nas.space.architecture import load_architecture

    found = load_architecture(architecture)
    declared = catalog.TASKS.load(task, "--task")
    shape = declared.shape(configured(task, option))
    given = {
        "device": device,
        "dtype": dtype,
        "batch": batch,
        "threads": threads,
        "beam": beam,
        "source_length": source_length,
        "target_length": target_length,
        "repetitions": repetitions,
    }
    workload = _workload(given, task)
    shown: dict[str, Any] = {"id": found.id, "task": task}
    if convention == "hat":
        counted = hat_convention(found, shape)
        shown |= {"convention": "hat", "params": counted.params, "flops": counted.flops}
    else:
        exact = exact_costs(shape, workload)(found)
        shown |= {key: _plain(value) for key, value in exact.items()}
        if "flops" in exact:
            shown["flops_by_group"] = flops_by_group(found, shape)
            shown["by_site"] = by_site(found, shape)
    wanted = ["latency_ms"] * latency + (measure or [])
    if wanted:
        shown |= _measured(wanted, found, shape, workload)
    if as_json:
        typer.echo(json.dumps(shown))
        return
    for name, value in shown.items():
        typer.echo(f"{name:18} {value if not isinstance(value, dict) else json.dumps(value)}")


def configured(task: str, given: list[str] | None) -> Any:
    """A task's options from `NAME=VALUE` texts; raises `SpecError` for what it does not know."""
    from nas import catalog
    from nas.search.changes import parse_change
    from nas.search.section import Part

    options = dict(parse_change(text, "--option") for text in given or [])
    return Part(name=task, options=options).configured(catalog.TASKS, "--option")


def _workload(given: Mapping[str, Any], task: str) -> Workload:
    """The workload; raises `SpecError` for what a task of this kind does not take."""
    from nas import catalog
    from nas.search.recipe import check_unit
    from nas.search.spec import parse_workload

    workload = parse_workload(given, "nas cost")
    check_unit(workload, catalog.TASKS.load(task).unit, task, "nas cost")
    return workload


def _plain(value: Any) -> Any:
    # Counts stay whole numbers to the last digit.
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _measured(
    names: Sequence[str], architecture: Architecture, shape: TaskShape, workload: Workload
) -> dict[str, Any]:
    from nas import catalog
    from nas.cost.cost import Candidate, measured
    from nas.search.workload import check_lengths
    from nas.space.task_shape import can_tell

    for name in names:
        catalog.COSTS.check(name, "--measure")
        if not can_tell(shape, name):
            raise SpecError(f"{name}: not known of networks of kind {architecture.kind}")
    if "latency_ms" in names:
        check_lengths(workload, shape)

    def network() -> StandaloneNetwork:
        from nas.model.network import StandaloneNetwork

        return StandaloneNetwork(architecture, shape)

    try:
        figures = measured(names, Candidate(architecture, shape, workload, network))
    except MachineUnavailable as error:
        raise SpecError(str(error)) from error
    shown: dict[str, Any] = {}
    for name, figure in figures.items():
        shown |= {name: figure.value, **figure.details}
    machines = {name: figure.machine for name, figure in figures.items()}
    return {**shown, "workload": workload.to_json(), "machines": machines}


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(cost)
