"""What would a space hold, cost, and leave under constraints?"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from threading import BoundedSemaphore
from typing import Any

import numpy as np
from pydantic import ValidationError

from nas import catalog
from nas.cost.cost import STANDARD, exact_models
from nas.errors import SpecError
from nas.registry import nearest
from nas.search.objective import Constraint
from nas.search.section import Part
from nas.space.blueprint import check as check_buildable
from nas.space.listed import ListedSpace
from nas.space.loader import explain, load_space, space_folders
from nas.space.population import sample
from nas.space.search_space import SearchSpace
from nas.space.task_shape import TaskShape
from nas_services.errors import RETRY_SECONDS, Problem
from nas_services.extremes import ranges

SAMPLES = 2000
# Two at once leave the other requests their turn.
_TURNS = BoundedSemaphore(2)
WAIT_SECONDS = 20.0


@contextmanager
def turn() -> Iterator[None]:
    """For what calculates for seconds; raises `Problem` (503) where too many do already."""
    if not _TURNS.acquire(timeout=WAIT_SECONDS):
        raise Problem(
            503,
            "Service Unavailable",
            "Too many requests are being checked; come again.",
            kind="busy",
            headers={"Retry-After": str(RETRY_SECONDS)},
        )
    try:
        yield
    finally:
        _TURNS.release()


def named_space(name: str) -> SearchSpace:
    """A known space; read anew where its file has changed. Raises `SpecError`."""
    for folder in space_folders():
        path = folder / f"{name}.yaml"
        try:
            changed = path.stat().st_mtime_ns
        except OSError:
            continue
        return _read(name, str(path), changed)
    return load_space(name)


@lru_cache(maxsize=64)
def _read(name: str, _path: str, _changed: int) -> SearchSpace:
    return load_space(name)


def facts(space: SearchSpace) -> dict[str, Any]:
    """What a list of spaces shows of each; the size is a text, as no number of JSON holds it."""
    return {
        "name": space.name,
        "kind": space.kind,
        "size": str(space.size),
        "digest": space.digest,
        "attentions": [str(each) for each in space.all_attentions],
    }


def task_of(given: Any) -> tuple[Part, Any]:
    """A task with its options, as a request names it; raises `SpecError`."""
    try:
        part = Part.model_validate(given)
    except ValidationError as error:
        raise explain(error, "", Part, "task") from error
    return part, part.configured(catalog.TASKS, "task")


def outlook(
    space: SearchSpace, shape: TaskShape, constraints: Sequence[Constraint] = ()
) -> dict[str, Any]:
    """Smallest and largest costs on a task's shape, and the share that keeps the constraints.

    Raises `SpecError` where the space cannot be built on the shape or a constraint is about no
    cost that is known beforehand.
    """
    check_buildable(space, shape)
    found: dict[str, Any] = {"costs": ranges(space, shape)}
    if constraints:
        found["feasible"] = _feasible(space, shape, constraints)
    return found


def check_known(constraints: Sequence[Constraint], known: Collection[str]) -> None:
    """Raises `SpecError` for a constraint on another metric than these."""
    for index, each in enumerate(constraints):
        if each.metric not in known:
            allowed = nearest(each.metric, list(known))
            raise SpecError(f"constraints.{index}: unknown metric {each.metric!r}; {allowed}")


def _feasible(
    space: SearchSpace, shape: TaskShape, constraints: Sequence[Constraint]
) -> dict[str, Any]:
    models = exact_models(shape)
    counted = [each for each in constraints if each.metric in models]
    # The same for everybody who asks the same.
    listed = isinstance(space, ListedSpace)
    codes = space.genomes if listed else sample(space, np.random.default_rng(0), SAMPLES)
    kept = np.ones(len(codes), dtype=bool)
    for name in {each.metric for each in counted}:
        values = models[name].figures(space, shape, STANDARD, codes)
        for each in counted:
            if each.metric == name:
                kept &= each.violations(values) == 0
    return {
        "share": float(kept.mean()),
        "samples": len(codes),
        "not_counted": [str(each) for each in constraints if each not in counted],
    }
