"""What are the smallest and largest costs in a space? Of large ones a process of its own is asked.

There it takes no memory and no turn from other requests: `python -m nas_services.extremes` reads
what is asked from standard input and writes JSON.
"""

from __future__ import annotations

import json
import pickle
import resource
import subprocess
import sys
from dataclasses import dataclass
from functools import lru_cache

from nas import catalog
from nas.space.loader import load_space
from nas.space.search_space import SearchSpace
from nas.space.task_shape import TaskShape, can_tell
from nas_services.admission import settings_of
from nas_services.errors import invalid
from nas_services.faults import Fault

RANGED = ("params", "flops")
# Up to this many settings it takes less time than to start a process.
SETTINGS_HERE = 20_000
SECONDS = 120

Ranges = dict[str, dict[str, int]]


@dataclass(frozen=True, eq=False)
class _Asked:
    """A question, equal to those with the same answer."""

    digest: str
    shape: TaskShape
    space: SearchSpace

    def __hash__(self) -> int:
        return hash((self.digest, self.shape))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Asked):
            return NotImplemented
        return (self.digest, self.shape) == (other.digest, other.shape)


def ranges(space: SearchSpace, shape: TaskShape) -> Ranges:
    """Exact smallest and largest parameters and FLOPs, as far as they are known on the shape.

    Raises `Problem` (422) where that takes longer than `SECONDS`.
    """
    return _kept(_Asked(space.digest, shape, space))


@lru_cache(maxsize=64)
def _kept(asked: _Asked) -> Ranges:
    here = settings_of(asked.space) <= SETTINGS_HERE
    return _here(asked.space, asked.shape) if here else _elsewhere(asked.space, asked.shape)


def _here(space: SearchSpace, shape: TaskShape) -> Ranges:
    found: Ranges = {}
    for name in RANGED:
        if can_tell(shape, name):
            cost = catalog.COSTS.load(name)
            smallest, largest = (cost.bound(space, shape, end) for end in ("smallest", "largest"))
            found[name] = {"smallest": int(smallest), "largest": int(largest)}
    return found


def _elsewhere(space: SearchSpace, shape: TaskShape) -> Ranges:
    command = [sys.executable, "-P", "-m", "nas_services.extremes"]
    try:
        done = subprocess.run(
            command,
            input=pickle.dumps((space.to_json(), shape)),
            stdout=subprocess.PIPE,
            timeout=SECONDS,
            check=True,
        )
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError) as error:
        message = f"its costs are not known within {SECONDS} s: it has too many settings"
        raise invalid([Fault("/space", "too_large", message)]) from error
    found: Ranges = json.loads(done.stdout)
    return found


def main() -> None:
    """Answers one question."""
    # Whoever asked may have gone away.
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    # It comes from the process that started this one.
    given, shape = pickle.load(sys.stdin.buffer)
    json.dump(_here(load_space(given), shape), sys.stdout)


if __name__ == "__main__":
    main()
