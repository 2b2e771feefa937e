"""What was tried, one row a trial: the trials as an Arrow table and a DataFrame."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nas.report.architecture import share_efficient
from nas.search.trial import Trial
from nas.space.architecture import KINDS, Architecture

if TYPE_CHECKING:
    import pandas
    import pyarrow

# Arrow's names of the types; a metric is a double of its own name and null where it is missing.
COLUMNS: Mapping[str, str] = {
    "role": "string",
    "index": "int64",
    "label": "string",
    "state": "string",
    "reason": "string",
    "seconds": "float64",
    "architecture_id": "string",
    "architecture": "string",
    "share_efficient": "float64",
}


def trials_table(trials: Sequence[Trial]) -> pyarrow.Table:
    """One row a trial in the order given; `attention` is a list with the type at every site.

    `architecture` is the canonical JSON. A metric that has the name of another column gets
    `_metric` appended.
    """
    import pyarrow

    named = sorted({name for trial in trials for name in trial.metrics})
    columns = {name: f"{name}_metric" if _taken(name) else name for name in named}
    fields = [(name, pyarrow.type_for_alias(kind)) for name, kind in COLUMNS.items()]
    sizes = dict.fromkeys(name for trial in trials for name in _sizes(trial.architecture))
    fields += [(name, pyarrow.int64()) for name in sizes]
    fields.append(("attention", pyarrow.list_(pyarrow.string())))
    fields += [(column, pyarrow.float64()) for column in columns.values()]
    rows = [_row(trial, columns) for trial in trials]
    return pyarrow.Table.from_pylist(rows, schema=pyarrow.schema(fields))


def trials_frame(trials: Sequence[Trial]) -> pandas.DataFrame:
    """The rows of `trials_table` as a DataFrame."""
    frame: pandas.DataFrame = trials_table(trials).to_pandas()
    return frame


def _taken(name: str) -> bool:
    return name in COLUMNS or name == "attention" or name in _SIZES


def _sizes(architecture: Architecture) -> dict[str, int]:
    """Depth and width of each stack."""
    return {
        name: figure
        for stack in architecture.stacks
        for name, figure in (
            (stack.field("depth"), len(architecture.layers_of(stack))),
            (stack.field("width"), getattr(architecture, stack.field("width"))),
        )
    }


COUNTS = ("depth", "width")
_SIZES = {stack.field(name) for kind in KINDS.values() for stack in kind.stacks for name in COUNTS}


def _row(trial: Trial, columns: Mapping[str, str]) -> dict[str, Any]:
    architecture, measurement = trial.architecture, trial.measurement
    return {
        "role": trial.role,
        "index": trial.index,
        "label": trial.label,
        "state": measurement.state,
        "reason": measurement.reason,
        "seconds": measurement.seconds,
        "architecture_id": architecture.id,
        "architecture": json.dumps(architecture.to_json(), sort_keys=True),
        "share_efficient": share_efficient(architecture),
        **_sizes(architecture),
        "attention": [str(each) for each in architecture.attentions],
        **{columns[name]: value for name, value in trial.metrics.items()},
    }
