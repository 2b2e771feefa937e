"""Small training requests on digits, and runs of them."""

from collections.abc import Iterator, Mapping
from typing import Any

from nas.search.spec import SearchSpec, load_spec
from nas.train.loop import Progress

SPACE = {
    "name": "two_types",
    "kind": "encoder",
    "patch_size": [2, 4],
    "width": [16, 24],
    "depth": [1, 2],
    "layers": {
        "attention": ["softmax", "cosformer"],
        "heads": [2],
        "head_width": [4, 8],
        "ffn_width": [16, 32],
    },
}


def request(
    supernet: Mapping[str, Any] | None = None,
    standalone: Mapping[str, Any] | None = None,
    **changes: Any,
) -> SearchSpec:
    """A request whose recipes take a second: 30 steps of 16 images, checkpoints every 17."""
    short = {"steps": 30, "batch_size": 16, "warmup_steps": 5, "checkpoint_every": 17}
    return load_spec(
        {
            "name": "train-test",
            "task": "digits",
            "space": SPACE,
            "supernet": {**short, **(supernet or {})},
            "standalone": {**short, **(standalone or {})},
            "evaluation": {"examples": 100},
            **changes,
        }
    )


def finish(run: Iterator[Progress]) -> list[Progress]:
    """All reports of a run, to its end."""
    return list(run)


def leave_at_save(run: Iterator[Progress]) -> Progress:
    """Goes on to the first checkpoint and abandons the run there."""
    return next(report for report in run if report.saved)
