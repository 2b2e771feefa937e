"""A table in the form of NAS-Bench-BERT's, of networks and scores that are made up."""

import json
import random
from pathlib import Path
from typing import Any

OPERATIONS = (
    ("SA", "SDP"), ("SA", "WMA"), ("LT", "DFT"), ("LT", "DCT"), ("DSC", "5"), ("DSC", "9"),
)  # fmt: skip


def rows(count: int = 60) -> list[dict[str, Any]]:
    """So many networks, all different."""
    rng, found = random.Random(4), dict[str, dict[str, Any]]()
    while len(found) < count:
        layers = []
        for _ in range(rng.choice((2, 4))):
            kind, option = rng.choice(OPERATIONS)
            layers.append(
                {
                    "operation_type": kind,
                    "operation_parameter": option,
                    "num_operation_heads": rng.choice((2, 4)),
                    "feed_forward_dimension": rng.choice((512, 1024)),
                    "num_feed_forward": rng.choice((1, 3)),
                }
            )
        row = {"hidden_size": rng.choice((128, 256)), "layers": layers}
        found.setdefault(json.dumps(row), row)
    return [
        {"id": i, **row, "glue": round(rng.uniform(55, 75), 3)}
        for i, row in enumerate(found.values())
    ]


def write(file: Path, given: list[dict[str, Any]] | None = None) -> Path:
    """Writes the rows, or these."""
    file.write_text(json.dumps(rows() if given is None else given), encoding="utf-8")
    return file
