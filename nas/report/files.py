"""Where does the report go: a page, its JSON files and a table of trials, each written whole."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nas.report.evidence import Summary, plain
from nas.report.frame import trials_table
from nas.report.history import history_json, history_of, plain_history
from nas.report.page import page
from nas.report.summary import summarize
from nas.report.trust import sentences
from nas.report.words import words
from nas.search.extent import EXTENT
from nas.search.history import History
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
    facts: Mapping[str, str] | None = None,
) -> dict[str, Path]:
    """Writes the files into `folder` and gives their paths by file name.

    `extra` is provenance by name (device, times, versions), `facts` the record's: what a ranker did
    in a test, and in what the history is normalised. `history.json` is one of them where there is a
    history (see `history_of`). Each file is there whole or as it was before, whenever the process
    dies; raises `OSError` where it cannot be written.
    """
    extra, facts = extra or {}, facts or {}
    summary = summarize(spec, trials, facts=facts)
    history = history_of(spec, trials, facts.get(EXTENT, ""))
    folder.mkdir(parents=True, exist_ok=True)
    html = page(spec, summary, trials, search_id=search_id, extra=extra, history=history)
    contents = {
        "trials.parquet": _parquet(trials),
        "fidelity.json": fidelity_json(summary, search_id).encode(),
        "pareto.json": pareto_json(summary, search_id, extra, history).encode(),
        "pareto.html": html.encode(),
    }
    if history is not None:
        contents["history.json"] = history_json(summary, history, search_id).encode()
    return {name: write_atomically(folder / name, data) for name, data in contents.items()}


def pareto_json(
    summary: Summary, search_id: str, extra: Mapping[str, Any], history: History | None = None
) -> str:
    """The summary and the history with their sentences as JSON text."""
    content = {
        "format": FORMAT,
        "search": search_id,
        **summary.to_json(),
        "words": words(summary),
        "history": None if history is None else plain_history(summary, history),
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
