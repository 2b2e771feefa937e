"""How is a measurement shown? As a table on the terminal, and as JSON with the machine named."""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nas.cost.machine import processor


def parser(description: str | None) -> argparse.ArgumentParser:
    """The arguments that every benchmark has: `--out FILE` for the JSON."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--out", type=Path, help="where to write the figures as JSON")
    return made


def machine(device: str = "cpu") -> dict[str, Any]:
    """Processor, cores, threads and versions that figures were taken on."""
    import torch

    found: dict[str, Any] = {
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    if device.startswith("cuda"):
        found["device"] = torch.cuda.get_device_name(device)
    return found


def print_table(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """The rows under their heads, in columns as wide as their widest cell."""
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    print(f"\n{title}")
    for row in (heads, ["-" * width for width in widths], *rows):
        print(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )


def write(out: Path | None, figures: Mapping[str, Any]) -> None:
    """Writes the figures, if a file was asked for, as JSON that any parser reads: without NaN."""
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(figures, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        print(f"\n{out}")
