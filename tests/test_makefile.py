"""Does `make` install once, and again only where what it installs has changed?"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
REQUIREMENTS = ("pyproject.toml", "constraints.txt")
WRITTEN, INSTALLED, CHANGED = 1_000, 2_000, 3_000
# What a `make` around the tests hands on to one within.
INHERITED = {"MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEFILES"}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A checkout whose environments are newer than what it was made from."""
    for name in ("Makefile", *REQUIREMENTS):
        shutil.copy(ROOT / name, tmp_path)
        date(tmp_path / name, WRITTEN)
    for environment in (".venv", ".venv-fairseq"):
        (tmp_path / environment).mkdir()
        stamp = tmp_path / environment / ".installed"
        stamp.touch()
        date(stamp, INSTALLED)
    return tmp_path


def date(path: Path, seconds: int) -> None:
    os.utime(path, (seconds, seconds))


def commands(tree: Path, target: str) -> str:
    """What `make TARGET` would run; nothing is."""
    environment = {name: value for name, value in os.environ.items() if name not in INHERITED}
    made = subprocess.run(
        ["make", "-n", target],
        cwd=tree,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return made.stdout


@pytest.mark.parametrize(
    ("target", "tool", "environment"),
    [
        ("demo", ".venv/bin/nas ", ".venv"),
        ("test", ".venv/bin/python -m pytest", ".venv"),
        ("test-fairseq", ".venv-fairseq/bin/python -m pytest", ".venv-fairseq"),
    ],
)
def test_a_second_call_installs_nothing(
    tree: Path, target: str, tool: str, environment: str
) -> None:
    assert tool in commands(tree, target)
    assert "pip" not in commands(tree, target)
    for name in REQUIREMENTS:
        date(tree / name, CHANGED)
        assert f"{environment}/bin/python -m pip" in commands(tree, target).partition(tool)[0], name
        date(tree / name, WRITTEN)
    (tree / environment / ".installed").unlink()
    assert "-m pip install" in commands(tree, target).partition(tool)[0]
