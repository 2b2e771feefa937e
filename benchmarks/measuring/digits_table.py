"""A supernet of scikit-learn's digits and the score of every architecture that it holds."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch

from nas.run.evaluate import Evaluator, Setup, train
from nas.run.submission import problem_of
from nas.run.tabular import Table, enumerated
from nas.search.spec import SearchSpec, load_spec

# 16 tokens; 2 x (18 + 18^2 + 18^3) = 12,348 architectures, of attention types above all.
SPACE: dict[str, Any] = {
    "name": "digits_enumerated",
    "patch_size": 2,
    "width": [16, 24],
    "depth": [1, 2, 3],
    "layers": {
        "attention": ["softmax", "cosformer", "linear"],
        "heads": [2, 4],
        "head_width": 4,
        "ffn_width": [16, 32, 64],
    },
}


def request() -> SearchSpec:
    """The digits demo's recipe over a space that can be enumerated."""
    supernet = {
        "steps": 6000,
        "batch_size": 64,
        "learning_rate": 5e-3,
        "warmup_steps": 100,
        "augmentation": {"crop_padding": 1},
    }
    return load_spec(
        {"name": "digits-table", "task": "digits", "space": SPACE, "supernet": supernet}
    )


def digits_table(file: Path | None = None) -> Table:
    """The table: read from `file` where that is there, else made, in some minutes, and kept."""
    spec = request()
    if file is not None and file.exists():
        return Table.read(file, problem_of(spec))
    threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder:
        setup = Setup.of(spec, Path(folder, "supernet"), Path(folder, "alone"), Path(folder))
        for _ in train(setup):
            pass
        table = enumerated(Evaluator(setup))
    torch.set_num_threads(threads)
    if file is not None:
        table.write(file)
    return table
