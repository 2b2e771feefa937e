"""A command run in this process, what it said, and the small requests that it is given."""

import contextlib
import io
import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from nas.cli.app import run

SEARCHES = Path(__file__).parents[2] / "search_spaces" / "searches"
DEMO = SEARCHES / "digits_demo.yaml"
# Refused at once: nobody listens at port 1.
NO_MLFLOW = "http://127.0.0.1:1"
RECIPE = {"steps": 20, "batch_size": 16, "warmup_steps": 5, "checkpoint_every": 10}
# Long enough that larger networks score better, so that a front has several members.
SUPERNET = {"steps": 200, "learning_rate": 0.005, "warmup_steps": 20, "checkpoint_every": 100}
SMALL: dict[str, Any] = {
    "name": "cli-test",
    "task": "digits",
    "space": "digits_tiny",
    "strategy": {"name": "evolution", "population": 10},
    "batch": 5,
    "budget": {"trials": 15},
    "supernet": SUPERNET,
    "standalone": RECIPE,
    "evaluation": {"examples": 60},
    "controls": {"random": 6, "homogeneous": 2},
    "confirmation": {"members": 1, "seeds": 2, "flops_tolerance": 0.2},
    "executor": "local",
    "seed": 3,
}
SPACE: dict[str, Any] = {
    "name": "tiny",
    "patch_size": [2],
    "width": [16, 24],
    "depth": [1, 2],
    "layers": {"attention": ["softmax", "linear"], "heads": [2], "head_width": 4, "ffn_width": 16},
}


@dataclass(frozen=True)
class Said:
    """Exit code, standard output and standard error of a command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON document that standard output is."""
        return json.loads(self.out)


def nas(*arguments: object) -> Said:
    """Runs `nas ARGUMENTS`."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run([str(each) for each in arguments])
    return Said(code, out.getvalue(), err.getvalue())


def written(path: Path, content: Mapping[str, Any] | str) -> Path:
    """A file of this text, or of this mapping as YAML."""
    if not isinstance(content, str):
        # Through JSON, so that what two keys share is written twice and not as a YAML alias.
        content = yaml.safe_dump(json.loads(json.dumps(content)), sort_keys=False)
    path.write_text(content)
    return path


def rows(home: Path, table: str, columns: str = "*") -> list[tuple[Any, ...]]:
    """Rows of the record in this folder, read past our own code."""
    with contextlib.closing(sqlite3.connect(home / "record.db")) as connection:
        return connection.execute(f"SELECT {columns} FROM nas_{table}").fetchall()


def refused(said: Said, *words: str, code: int = 2) -> None:
    """Holds that a command ended with one plain message that has all of these words."""
    assert said.code == code, said
    assert said.out == ""
    assert said.err.startswith("error: "), said.err
    assert said.err.count("error: ") == 1
    assert "Traceback" not in said.err
    for word in words:
        assert word in said.err
