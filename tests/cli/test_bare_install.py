"""What works where the engine is not installed, and what does the rest say?"""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Finished
from tests.cli.terminal import DEMO, SMALL, nas, refused, written

# Every command line of standard input in one process in which the engine's packages are missing.
BARE = """
import contextlib, io, json, sys
ENGINE = {
    "lightgbm", "mlflow", "optuna", "pandas", "PIL", "plotly", "pyarrow", "ray", "sacrebleu",
    "safetensors", "scipy", "sklearn", "tokenizers", "torch", "torchvision", "triton",
}
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ENGINE:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
from nas.cli.app import run
said = []
for command in json.load(sys.stdin):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run(command)
    said.append({"code": code, "out": out.getvalue(), "err": err.getvalue()})
json.dump(said, sys.stdout)
"""


def bare(commands: dict[str, list[Any]]) -> dict[str, dict[str, Any]]:
    given = json.dumps([[str(word) for word in command] for command in commands.values()])
    command = [sys.executable, "-c", BARE]
    ended = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return dict(zip(commands, json.loads(ended.stdout), strict=True))


def test_what_needs_no_engine_works(finished: Finished, tmp_path: Path) -> None:
    best = nas("pareto", finished.id, "--best", "--home", finished.home)
    path = written(tmp_path / "best.json", best.out)
    given = {**SMALL, "executor": "ray", "strategy": {"name": "optuna", "sampler": "tpe"}}
    optuna = written(tmp_path / "optuna.yaml", given)
    commands: dict[str, list[Any]] = {
        "help": ["--help"],
        "version": ["--version"],
        "list": ["spaces", "list", "--json"],
        "show": ["spaces", "show", "cifar10_small", "--json"],
        "schema": ["spaces", "schema"],
        "request": ["search", "--schema"],
        "cost": ["cost", path, "--task", "digits", "--json"],
        "valid": ["search", DEMO, "--dry-run", "--json"],
        "optuna": ["search", optuna, "--dry-run", "--json"],
        "pareto": ["pareto", finished.id, "--json", "--home", finished.home],
        "table": ["pareto", finished.id, "--home", finished.home],
        "compare": ["compare", finished.id, finished.id, "--home", finished.home, "--json"],
        "searches": ["list", "--home", finished.home],
    }
    found = bare(commands)
    for name in ("valid", "optuna"):
        unknown = found[name].pop("err")
        assert unknown == "not checked: the task's data and GPUs (ray is not installed here)\n"
    for name, said in found.items():
        assert (said["code"], said.get("err", "")) == (0, ""), name
        assert said["out"] == nas(*commands[name]).out, name


def test_a_confirmed_search_needs_no_engine_to_be_looked_at(
    finished: Finished, tmp_path: Path
) -> None:
    spec = written(tmp_path / "spec.yaml", {**SMALL, "fidelity": {"networks": 8}})
    home = ("--home", tmp_path / "home")
    shutil.copytree(finished.home / "supernets", tmp_path / "home" / "supernets")
    search = nas("search", spec, *home, "--json").json["id"]
    for stage in ("fidelity", "confirm"):
        assert nas(stage, search, *home).code == 0
    commands: dict[str, list[Any]] = {
        "json": ["pareto", search, "--json", *home],
        "table": ["pareto", search, *home],
        "best": ["pareto", search, "--best", *home],
        "compare": ["compare", search, search, *home],
    }
    found = bare(commands)
    noted = found["best"].pop("err")
    assert noted.endswith(": the best of the networks that were trained to the end\n")
    for name, said in found.items():
        assert (said["code"], said.get("err", "")) == (0, ""), name
        assert said["out"] == nas(*commands[name]).out, name
    for title in ("Trained alone: member minus homogeneous network", "Agreement of rankings"):
        assert title in found["table"]["out"]


def test_the_rest_names_what_to_install_and_leaves_nothing(
    finished: Finished, tmp_path: Path
) -> None:
    best = nas("pareto", finished.id, "--best", "--home", finished.home)
    path, spec = written(tmp_path / "best.json", best.out), written(tmp_path / "s.yaml", SMALL)
    home, page = tmp_path / "home", tmp_path / "page.html"
    missing: dict[str, tuple[list[Any], str]] = {
        "search": (["search", spec, "--home", home], "torch"),
        "resume": (["search", "--resume", finished.id, "--home", finished.home], "torch"),
        "fidelity": (["fidelity", finished.id, "--home", finished.home], "torch"),
        "confirm": (["confirm", finished.id, "--home", finished.home], "torch"),
        "latency": (["cost", path, "--task", "digits", "--latency"], "torch"),
        "page": (["pareto", finished.id, "--html", page, "--home", finished.home], "plotly"),
        "prepare": (["data", "prepare", "cifar10"], "torchvision"),
        "rebuild": (["store", "rebuild", finished.id, "--home", finished.home], "mlflow"),
    }
    for name, said in bare({name: command for name, (command, _) in missing.items()}).items():
        assert said["code"] == 2, (name, said)
        assert said["out"] == "", name
        assert missing[name][1] in said["err"], (name, said)
        assert "pip install 'etnas[engine]'" in said["err"], name
        assert said["err"].count("error: ") == 1
    assert not home.exists()
    assert not page.exists()


def test_a_strategy_whose_package_is_missing_is_told_before_anything_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    spec = written(tmp_path / "spec.yaml", {**SMALL, "strategy": "optuna"})
    home = tmp_path / "home"
    for command in (["search", spec], ["search", spec, "--dry-run"]):
        refused(nas(*command, "--home", home), "this needs optuna", "etnas[engine]")
    assert not home.exists()
    fitting = written(tmp_path / "other.yaml", {**SMALL, "strategy": "random"})
    assert nas("search", fitting, "--dry-run", "--home", home).code == 0


def test_a_fault_of_our_own_imports_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ModuleNotFoundError("No module named 'nas.nothing'", name="nas.nothing")

    monkeypatch.setattr("nas.cli.app.app", fail)
    with pytest.raises(ModuleNotFoundError, match=r"nas\.nothing"):
        nas("anything")

    def miss(*_: object, **__: object) -> None:
        raise ModuleNotFoundError("No module named 'ray.tune'", name="ray.tune")

    monkeypatch.setattr("nas.cli.app.app", miss)
    refused(nas("anything"), "ray", "etnas[engine]")


def test_help_loads_nothing_heavy() -> None:
    program = (
        "import sys\nfrom nas.cli.app import run\ncode = run(['--help'])\n"
        "sys.stderr.write(' '.join(sorted({name.partition('.')[0] for name in sys.modules})))\n"
        "sys.exit(code)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    for command in (
        "search", "fidelity", "confirm", "list", "pareto", "compare", "spaces", "data", "cost",
        "doctor",
    ):  # fmt: skip
        assert f" {command} " in ended.stdout
    heavy = {"torch", "numpy", "pydantic", "yaml", "sqlalchemy", "ray", "mlflow", "pandas"}
    assert not heavy & set(ended.stderr.split())


@pytest.mark.parametrize(("package", "extra"), [("uvicorn", "service"), ("torch", "engine")])
def test_a_missing_package_is_named_with_the_extra_that_brings_it(
    package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def command(*_: Any, **__: Any) -> None:
        raise ModuleNotFoundError(f"No module named '{package}'", name=package)

    monkeypatch.setattr("nas.cli.app.app", command)
    refused(nas("anything"), package, f"etnas[{extra}]")
