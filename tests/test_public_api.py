"""Is the Python API what it was? A change here is a change for everyone who imports nas."""

import dataclasses
import inspect
import pprint
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

import nas
from nas.cli.app import run
from nas.errors import SearchStateError, SpecError
from nas.run.running import Update

SIGNATURES = {
    "load_space": "(space: 'str | Path | Mapping[str, Any]') -> 'SearchSpace'",
    "load_spec": (
        "(spec: 'str | Path | Mapping[str, Any]', changes: 'Mapping[str, Any] | None' = None)"
        " -> 'SearchSpec'"
    ),
    "load_architecture": "(path: 'str | Path') -> 'Architecture'",
    "run_search": (
        "(spec: 'SearchSpec | str | Path | Mapping[str, Any]', *, "
        "home: 'str | Path | None' = None, warm_start: 'str | None' = None, "
        "listener: 'Listener' = <function>) -> 'SearchResult'"
    ),
    "resume_search": (
        "(search_id: 'str', *, home: 'str | Path | None' = None, "
        "listener: 'Listener' = <function>) -> 'SearchResult'"
    ),
    "fidelity_search": (
        "(search_id: 'str', *, home: 'str | Path | None' = None, "
        "listener: 'Listener' = <function>) -> 'SearchResult'"
    ),
    "confirm_search": (
        "(search_id: 'str', *, home: 'str | Path | None' = None, "
        "listener: 'Listener' = <function>, despite_gate: 'bool' = False) -> 'SearchResult'"
    ),
    "load_result": "(search_id: 'str', home: 'str | Path | None' = None) -> 'SearchResult'",
}
REQUEST = {
    "name": "api-test",
    "task": "digits",
    "space": "digits_tiny",
    "batch": 5,
    "budget": {"trials": 10},
    "supernet": {"steps": 20, "warmup_steps": 5},
    "evaluation": {"examples": 60},
    "controls": {"random": 2, "homogeneous": 0},
    "executor": "local",
}


def test_names() -> None:
    assert nas.__all__ == [
        "Architecture",
        "Client",
        "SearchResult",
        "SearchSpace",
        "SearchSpec",
        "confirm_search",
        "fidelity_search",
        "load_architecture",
        "load_result",
        "load_space",
        "load_spec",
        "resume_search",
        "run_search",
    ]
    assert dir(nas) == sorted(nas.__all__)
    for name in nas.__all__:
        assert getattr(nas, name).__name__ == name
    with pytest.raises(AttributeError, match="load_anything"):
        _ = nas.load_anything


@pytest.mark.parametrize("name", SIGNATURES)
def test_signatures(name: str) -> None:
    signature = str(inspect.signature(getattr(nas, name)))
    # The default listener is a function, whose text has its address.
    assert re.sub(r"<function .*? at 0x[0-9a-f]+>", "<function>", signature) == SIGNATURES[name]


def test_fields_and_methods_of_a_result() -> None:
    fields = [field.name for field in dataclasses.fields(nas.SearchResult)]
    assert fields == [
        "id", "state", "spec", "trials", "files", "place", "facts", "later_constraints",
        "recorded",
    ]  # fmt: skip
    public = {name for name in vars(nas.SearchResult) if not name.startswith("_")} - set(fields)
    assert public == {
        "constrained", "frame", "front", "history", "summary", "to_json", "trained_best",
        "words", "write_page",
    }  # fmt: skip


def test_methods_of_a_client() -> None:
    assert str(inspect.signature(nas.Client)) == (
        "(url: 'str', token: 'str | None' = None, *, timeout: 'float' = 30.0, "
        "retries: 'int' = 6, transport: 'httpx.BaseTransport | None' = None) -> 'None'"
    )
    public = {name for name in vars(nas.Client) if not name.startswith("_")}
    assert public == {
        "artifacts", "attentions", "cancel", "cancel_operation", "check", "close", "config",
        "delete", "download", "events", "exporters", "fidelity", "front", "get", "health",
        "history", "logs", "operation", "pareto_html", "pause", "resume", "searches", "space",
        "spaces", "strategies", "submit", "tasks", "trial", "trials", "url", "validate_space",
        "version", "wait",
    }  # fmt: skip


def test_import_loads_no_torch() -> None:
    program = "import sys, nas; sys.exit(bool({'torch', 'numpy', 'pydantic'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", program], check=True)
    program = "import sys, nas; nas.load_space; nas.load_spec; nas.SearchResult; nas.run_search\n"
    subprocess.run([sys.executable, "-c", f"{program}sys.exit('torch' in sys.modules)"], check=True)
    heavy = {"torch", "sqlalchemy", "pandas", "ray", "mlflow", "fastapi"}
    program = f"import sys, nas; nas.Client; sys.exit(bool({heavy} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_search_from_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.run.running.Projector", lambda *_: nullcontext())
    for name in ("NAS_HOME", "NAS_DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    spec = nas.load_spec(REQUEST, {"seed": 5})
    heard: list[Update] = []
    result = nas.run_search(spec, home=tmp_path / "home", listener=heard.append)
    assert (result.state, result.spec) == ("succeeded", spec)
    assert {update.phase for update in heard} >= {"supernet", "search", "random", "report"}
    assert [trial.role for trial in result.trials] == ["search"] * 10 + ["random"] * 2
    assert {Path(path).name for path in result.files.values()} == set(result.files)
    frame = result.frame()
    assert list(frame["architecture_id"]) == [row["id"] for row in result.front]
    assert list(frame["flops"]) == [row["flops"] for row in result.front]
    assert result.words[0] == result.summary.gate.sentence
    assert result.words[1].startswith("The search scored 10 of 10 architectures of digits_tiny")
    space = nas.load_space("digits_tiny")
    for row in result.front:
        assert space.contains(nas.Architecture.from_json(row["architecture"]))
    bound = result.front[-1]["flops"]
    assert len(result.constrained([f"flops <= {bound}"]).front) == 1
    monkeypatch.chdir(tmp_path)
    # As anybody would say it.
    assert result.write_page("page.html").read_text() == (
        result.write_page(tmp_path / "again.html").read_text()
    )
    for wrong in (None, 3, b"x", "a\0b"):
        with pytest.raises(SpecError, match=r"^page: .* given; a path"):
            result.write_page(wrong)  # type: ignore[arg-type]
    said = f"<SearchResult {result.id} api-test, succeeded: front of {len(result.front)}; "
    assert repr(result) == f"{said}trials: 10 search, 2 random>"
    # As a notebook, a debugger and a log would show it.
    assert pprint.pformat(result, width=1000) == f"{result}" == repr(result)
    again = nas.load_result("last", tmp_path / "home")
    assert (again.id, again.spec, again.trials) == (result.id, spec, result.trials)
    with pytest.raises(SearchStateError, match=f"search {result.id} is finished"):
        nas.resume_search("last", home=tmp_path / "home")
    assert run(["search", "--resume", result.id, "--home", str(tmp_path / "home")]) == 2


WRONG: dict[str, tuple[Callable[[Any], object], list[Any]]] = {
    "space": (lambda given: nas.load_space(given), [None, 3, [], b"x"]),
    "spec": (lambda given: nas.load_spec(given), [None, 3, [], b"x", "a\0b", {1: 2}]),
    "changes": (lambda given: nas.load_spec(REQUEST, given), [[("seed", 1)], {1: 2}, "seed=1", 3]),
    "architecture": (lambda given: nas.load_architecture(given), [None, {}, b"x", "a\0b"]),
    "request": (lambda given: nas.run_search(given, home="never"), [None, 3, [], b"x"]),
    "home": (lambda given: nas.run_search(REQUEST, home=given), [3, b"x", "a\0b", ["x"]]),
    "warm start": (
        lambda given: nas.run_search(REQUEST, home="never", warm_start=given),
        [3, b"x", ["x"]],
    ),
    "id": (lambda given: nas.resume_search(given, home="never"), [None, 3, b"x"]),
    "search": (lambda given: nas.load_result(given, home="never"), [None, 3, b"x"]),
    "objectives": (
        lambda given: nas.load_spec({**REQUEST, "objectives": given}),
        [{"cross_entropy", "flops"}, frozenset(("cross_entropy", "flops")), {"flops": 1}, "flops"],
    ),
    "constraints": (
        lambda given: nas.load_spec({**REQUEST, "constraints": given}),
        [{"flops <= 1e9"}, "flops <= 1e9", 3],
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_values_of_wrong_types_are_one_kind_of_error(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    call, values = WRONG[what]
    for value in values:
        with pytest.raises(SpecError) as caught:
            call(value)
        # The message says what was given, in one line.
        assert "\n" not in str(caught.value)
        named = value if isinstance(value, str) else repr(value)
        assert named.replace("\0", "\\x00") in str(caught.value) or value == {1: 2}
    assert list(tmp_path.iterdir()) == []
