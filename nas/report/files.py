"""Where does the report go: `pareto.html` and `.json`, `fidelity.json`, `trials.parquet`; whole."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nas.report.evidence import Summary, plain
from nas.report.frame import trials_table
from nas.report.page import page
from nas.report.summary import summarize
from nas.report.trust import sentences
from nas.report.words import words
from nas.search.fidelity import RankerTest
from nas.search.spec import SearchSpec
from nas.search.trial import Trial

FORMAT = 1


def write_report(
    folder: Path,
    spec: SearchSpec,
    trials: Sequence[Trial],
    *,
    search_id: str,
    extra: Mapping[str, Any] | None = None,
    ranker_test: RankerTest | None = None,
) -> dict[str, Path]:
    """Writes the files into `folder` and gives their paths by file name.

    `extra` is provenance by name (device, times, versions), `ranker_test` what the record's facts
    have of one. Each file is there whole or as it was
    before, whenever the process dies; raises `OSError` where it cannot be written.
    """
    extra = extra or {}
    summary = summarize(spec, trials, ranker_test=ranker_test)
    folder.mkdir(parents=True, exist_ok=True)
    html = page(spec, summary, trials, search_id=search_id, extra=extra)
    contents = {
        "trials.parquet": _parquet(trials),
        "fidelity.json": fidelity_json(summary, search_id).encode(),
        "pareto.json": pareto_json(summary, search_id, extra).encode(),
        "pareto.html": html.encode(),
    }
    return {name: write_atomically(folder / name, data) for name, data in contents.items()}


def pareto_json(summary: Summary, search_id: str, extra: Mapping[str, Any]) -> str:
    """The summary with its sentences as JSON text."""
    content = {
        "format": FORMAT,
        "search": search_id,
        **summary.to_json(),
        "words": words(summary),
        "extra": plain(extra),
    }
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def fidelity_json(summary: Summary, search_id: str) -> str:
    """The check of the ranking as JSON text: verdict, networks, taus and recipe, null if none."""
    content = {
        "format": FORMAT,
        "search": search_id,
        "gate": plain(summary.gate),
        "fidelity": plain(summary.fidelity),
        "ranker_test": plain(summary.ranker_test),
        "words": [summary.gate.sentence, *sentences(summary)],
    }
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def write_atomically(path: Path, data: bytes) -> Path:
    """Replaces a file in one step, after its bytes are on the disk; a link keeps its place.

    What is no file, as `/dev/stdout`, is written to.
    """
    # Asked first: a pipe's real path, pipe:[7], is no path.
    if path.exists() and not path.is_file():
        path.write_bytes(data)
        return path
    path = Path(os.path.realpath(path))
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        # A temporary file is the owner's alone; a report is for everyone who may read the folder.
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return path


def _parquet(trials: Sequence[Trial]) -> bytes:
    import pyarrow
    from pyarrow import parquet

    sink = pyarrow.BufferOutputStream()
    parquet.write_table(trials_table(trials), sink)
    data: bytes = sink.getvalue().to_pybytes()
    return data
