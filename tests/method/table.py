"""A space that can be scored to the last architecture, and searches that look its scores up."""

from typing import Any

from nas import catalog
from nas.run.tabular import Table
from nas.search.spec import SearchSpec, load_spec
from nas.search.trial import Trial

# 16 tokens, 2 x (36 + 36^2) = 2,664 architectures, of attention types above all.
SPACE: dict[str, Any] = {
    "name": "enumerated",
    "patch_size": 2,
    "width": [16, 24],
    "depth": [1, 2],
    "layers": {
        "attention": ["softmax", "cosformer", "linear"],
        "heads": [2, 4],
        "head_width": [4, 8],
        "ffn_width": [16, 32, 64],
    },
}


def request(**changes: Any) -> SearchSpec:
    """The digits demo's recipes, shortened, over a space that can be enumerated."""
    recipe = {"batch_size": 64, "learning_rate": 5e-3, "augmentation": {"crop_padding": 1}}
    given = {
        "name": "method",
        "task": "digits",
        "space": SPACE,
        "supernet": {**recipe, "steps": 4000, "warmup_steps": 100, "checkpoint_every": 4000},
        "standalone": {**recipe, "steps": 400, "checkpoint_every": 400},
    }
    return load_spec(given | changes)


def searched(table: Table, strategy: str, seed: int, count: int) -> tuple[Trial, ...]:
    """A search of the table by a strategy of the catalog with its default options."""
    declared = catalog.STRATEGIES.load(strategy)
    return table.search(declared(declared.options_model()), seed, count)
