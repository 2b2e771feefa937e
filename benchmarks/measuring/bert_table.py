"""NAS-Bench-BERT's trained encoders as a table that strategies can search."""

from __future__ import annotations

from pathlib import Path

from nas.run.evaluate import Setup
from nas.run.lookup import Lookup
from nas.run.tabular import Table, enumerated
from nas.search.spec import load_spec


def bert_table(file: Path) -> Table:
    """The table of the task `nas_bench_bert` with this file: GLUE against parameters.

    Raises `DataError` for a file that is no such table.
    """
    spec = load_spec(
        {
            "name": "bert-table",
            "task": {"name": "nas_bench_bert", "path": str(file.resolve())},
            "space": "nas_bench_bert",
            "objectives": ["glue", "params"],
        }
    )
    # Nothing is trained, and the path is absolute: no folder is looked into.
    return enumerated(Lookup(Setup.of(spec, Path(), Path(), Path())))
