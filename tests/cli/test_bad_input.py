"""Is every wrong input met by one clear message, exit code 2, and nothing left behind?"""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from nas.cli import app
from nas.errors import (
    CheckpointError,
    DataError,
    EtnasError,
    LeaseLost,
    NothingFeasible,
    PartNotInstalled,
    SearchNotFound,
    SearchStateError,
    SpecError,
    StoreUnavailable,
    TrainingDiverged,
)
from nas.run.submission import submit
from nas.run.workspace import workspace
from nas.search.spec import load_spec
from tests.cli.conftest import Finished
from tests.cli.terminal import DEMO, SMALL, SPACE, nas, refused, rows, written

LATENCY = "--latency"
WRONG_REQUESTS: dict[str, tuple[str, list[str]]] = {
    "space": ("space=digits_tny", ["space", "'digits_tny'", "did you mean 'digits_tiny'?"]),
    "long space": (f"space={'x' * 300}", ["space: unknown name", "digits_tiny"]),
    "one example": ("evaluation.examples=1", ["evaluation.examples", "equal to 2", "1 given"]),
    "no order": ("objectives={flops: 1, params: 2}", ["objectives", "a list is required"]),
    "task": ("task=digit", ["task", "did you mean 'digits'?", "image_folder"]),
    "strategy": ("strategy=evolutin", ["strategy", "did you mean 'evolution'?", "random"]),
    "executor": ("executor.name=rai", ["executor.name", "did you mean 'ray'?", "local"]),
    "objective": ("objectives=[cross_entropy, flop]", ["objectives", "'flop'", "'flops'"]),
    "one objective": ("objectives=[flops]", ["objectives", "2"]),
    "twice": ("objectives=[flops, flops]", ["objectives", "once"]),
    "metric": ("constraints=['flop <= 3']", ["constraints", "did you mean 'flops'?"]),
    "too tight": (
        "constraints=['flops <= 3']",
        ["digits_tiny", "'flops <= 3'", "smallest possible", "37440"],
    ),
    "too wide": ("constraints=['params >= 1e15']", ["params >= 1e+15", "largest possible params"]),
    "no bound": ("constraints=[flops]", ["constraints.0", "'flops'", "METRIC <= NUMBER"]),
    "NaN bound": ("constraints=['flops <= nan']", ["constraints.0", "finite"]),
    "endless bound": ("constraints=['flops <= 1e999']", ["constraints.0", "finite"]),
    "negative bound": ("constraints=['flops <= -5']", ["constraints.0", ">= 0"]),
    "negative": ("budget.trials=-1", ["budget.trials", "greater than or equal to 1", "-1 given"]),
    "NaN": ("supernet.learning_rate=.nan", ["supernet.learning_rate", "finite", "nan given"]),
    "infinite": ("budget.wall_hours=.inf", ["budget.wall_hours", "finite", "inf given"]),
    "NaN count": ("budget.trials=.nan", ["budget.trials", "integer", "nan given"]),
    "word": ("budget.trials=ten", ["budget.trials", "integer", "'ten' given"]),
    "text": ("budget.trials='10'", ["budget.trials", "integer", "'10' given"]),
    "text, task": ("task.validation='20'", ["task.validation", "integer", "'20' given"]),
    "truth, task": ("task.validation=true", ["task.validation", "integer", "True given"]),
    "text, strategy": ("strategy.initial='8'", ["strategy.initial", "integer", "'8' given"]),
    "NaN, strategy": ("strategy.optimism=.nan", ["strategy.optimism"]),
    "no bool": ("supernet.augmentation.flip=1", ["supernet.augmentation.flip", "bool"]),
    "unsafe flip": ("supernet.augmentation.flip=true", ["supernet.augmentation.flip", "unsafe"]),
    "key": ("bugdet.trials=10", ["bugdet", "unknown key", "did you mean 'budget'?"]),
    "inner key": ("budget.trial=10", ["budget.trial", "did you mean 'trials'?", "wall_hours"]),
    "task key": ("task.sde=8", ["task.sde", "did you mean 'side'?"]),
    "strategy key": ("strategy.initia=8", ["strategy.initia", "did you mean 'initial'?"]),
    "side": ("task.side=9", ["space.patch_size", "9 pixels", "allowed: 1, 3, 9"]),
    "name": ("name='A b'", ["name", "'A b' given"]),
    "device": ("latency.device=tpu", ["latency.device", "'tpu' given", "cuda"]),
    "into a list": ("objectives.0=flops", ["--set objectives.0", "not a mapping"]),
    "no value": ("budget.trials", ["--set budget.trials", "KEY.PATH=VALUE"]),
    "no key": ("=3", ["--set =3", "KEY.PATH=VALUE"]),
    "no YAML": ("batch={", ["--set batch", "not usable YAML"]),
    "alias": ("objectives=[&a flops, *a]", ["--set objectives", "aliases are not allowed"]),
}


@pytest.mark.parametrize("kind", WRONG_REQUESTS)
def test_a_wrong_request(kind: str, tmp_path: Path) -> None:
    change, words = WRONG_REQUESTS[kind]
    home = tmp_path / "home"
    refused(nas("search", DEMO, "--set", change, "--home", home), *words)
    assert not home.exists()
    # The dry run says the same.
    refused(nas("search", DEMO, "--set", change, "--home", home, "--dry-run"), *words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: &x [1]\nb: *x\n", ["aliases are not allowed", "line 2"]),
        ("a: [" + "1, " * 10_001 + "]", ["10000 nodes"]),
        ("a: " + "[" * 40 + "]" * 40, ["32 levels"]),
        ("a: 1\na: 2\n", ["'a' appears twice"]),
        ("a: [1\n", ["not usable YAML"]),
        ("- 1\n", ["a mapping with name, task, space"]),
        ("", ["a mapping with name, task, space"]),
        ("name: x\ntask: digits\nspace: digits_tiny\nbugdet: 1\n", ["bugdet", "'budget'"]),
        ("name: x\ntask: digits\n", ["space", "is required"]),
        ("a: !!python/object:os.system 1\n", ["not usable YAML"]),
    ],
)
def test_a_wrong_request_file(text: str, words: list[str], tmp_path: Path) -> None:
    spec = written(tmp_path / "wrong.yaml", text)
    refused(nas("search", spec, "--home", tmp_path / "home"), str(spec), *words)
    assert not (tmp_path / "home").exists()


def test_a_request_file_that_is_not_there(tmp_path: Path) -> None:
    for path in (tmp_path / "none.yaml", tmp_path):
        refused(nas("search", path, "--home", tmp_path / "home"), str(path), "cannot be read")
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    refused(nas("search", binary), str(binary), "cannot be read")


WRONG_SPACES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "dimension": ({"widht": [16]}, ["widht", "did you mean 'width'?"]),
    "layer dimension": ({"layers": {**SPACE["layers"], "haeds": 2}}, ["layers.haeds", "'heads'"]),
    "attention": (
        {"layers": {**SPACE["layers"], "attention": ["sofmax"]}},
        ["layers.attention", "'sofmax'", "did you mean 'softmax'", "cosformer"],
    ),
    "option": (
        {"layers": {**SPACE["layers"], "attention": [{"type": "linear", "feature_map": "relo"}]}},
        ["layers.attention", "feature_map", "'relo'", "relu"],
    ),
    "no choice": ({"width": []}, ["width", "empty"]),
    "no layer choice": ({"layers": {**SPACE["layers"], "heads": []}}, ["layers.heads", "empty"]),
    "twice": ({"width": [16, 16]}, ["width", "twice"]),
    "no heads": ({"layers": {**SPACE["layers"], "heads": [0]}}, ["layers.heads", "0"]),
    "width 0": ({"width": [0]}, ["width", "0"]),
    "negative": ({"layers": {**SPACE["layers"], "ffn_width": [-4]}}, ["layers.ffn_width", "-4"]),
    "NaN": ({"width": [float("nan")]}, ["width", "nan"]),
    "fraction": ({"layers": {**SPACE["layers"], "head_width": [4.5]}}, ["head_width", "4.5"]),
    "text": ({"width": ["16"]}, ["width", "'16'"]),
    "depth": ({"depth": [0]}, ["depth", "0"]),
    "deeper": ({"layers.5": {"heads": 4}}, ["layers.5", "depth is at most 2"]),
    "norm": ({"norm": "layrnorm"}, ["norm", "did you mean 'layernorm'"]),
    "missing": ({"layers": {"attention": "softmax"}}, ["layers.", "is required"]),
}


@pytest.mark.parametrize("kind", WRONG_SPACES)
def test_a_wrong_space(kind: str, tmp_path: Path) -> None:
    change, words = WRONG_SPACES[kind]
    path = written(tmp_path / "space.yaml", {**SPACE, **change})
    refused(nas("spaces", "validate", path), str(path), *words)
    said = nas("search", DEMO, "--set", f"space={path}", "--home", tmp_path / "home")
    refused(said, str(path), *words)
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", ["not readable as JSON"]),
        ("[]", ["a mapping"]),
        ('{"patch_size": 2, "width": 16, "layers": []}', ["architecture.layers"]),
        ('{"patch_size": 2, "width": 16, "layers": [{"heads": 2}]}', ["layers.0", "missing"]),
        ('{"patch_size": 2, "wdth": 16, "layers": [{}]}', ["layers.0", "missing"]),
        ("1" * 5000, ["not readable as JSON"]),
        ("[" * 100_000, ["not readable as JSON"]),
    ],
)
def test_a_wrong_architecture(content: str, words: list[str], tmp_path: Path) -> None:
    path = written(tmp_path / "a.json", content)
    refused(nas("cost", path, "--task", "digits"), str(path), *words)


def test_fields_of_an_architecture_that_are_wrong(tmp_path: Path) -> None:
    whole = '{"patch_size": 2, "width": 8, "layers": [%s]}'
    layer = '{"attention": "softmax", "heads": 2, "head_width": 4, "ffn_width": 8}'
    for old, new, words in (
        ("softmax", "sofmax", ["layers.0.attention", "did you mean 'softmax'"]),
        ('"heads": 2', '"heads": NaN', ["layers.0.heads", "nan"]),
        ('"heads": 2', '"heads": -2', ["layers.0.heads", "-2"]),
        ("ffn_width", "fn_width", ["layers.0.fn_width", "unknown", "'ffn_width'"]),
    ):
        changed = layer.replace(old, new)
        path = written(
            tmp_path / "a.json", f'{{"patch_size": 2, "width": 8, "layers": [{changed}]}}'
        )
        refused(nas("cost", path, "--task", "digits"), str(path), *words)
    path = written(tmp_path / "a.json", whole % layer)
    refused(nas("cost", path, "--task", "digit"), "--task", "did you mean 'digits'?")
    refused(nas("cost", path, "--task", "digits", "--option", "side"), "--option side", "=VALUE")
    refused(nas("cost", path, "--task", "digits", "--option", "sid=8"), "--option.sid", "'side'")
    refused(nas("cost", path, "--task", "digits", "--option", "side=7"), "patch_size 2", "7 pixels")
    refused(nas("cost", path, "--task", "digits", LATENCY, "--device", "tpu"), "'tpu' given")
    refused(nas("cost", path, "--task", "digits", LATENCY, "--dtype", "int8"), "'int8' given")
    refused(nas("cost", path, "--task", "digits", LATENCY, "--batch", 10**9), "batch", "65536")
    refused(nas("cost", path, "--task", "digits", LATENCY, "--threads", 10**6), "threads", "1024")
    refused(nas("cost", path), "--task")
    refused(nas("cost", tmp_path / "none.json", "--task", "digits"), "none.json", "no such file")


def test_a_device_that_is_not_here(tmp_path: Path, finished: Finished) -> None:
    best = nas("pareto", finished.id, "--best", "--home", finished.home)
    path = written(tmp_path / "best.json", best.out)
    # No machine has a thousand GPUs, and most have none.
    said = nas("cost", path, "--task", "digits", LATENCY, "--device", "cuda:999")
    refused(said, "latency_ms cannot be measured here", "cuda:999")


def test_a_filter_by_what_was_not_measured(finished: Finished) -> None:
    said = nas("pareto", finished.id, "--home", finished.home, "--constraint", "latency_ms <= 3")
    refused(said, "latency_ms <= 3", "not measured", finished.id, "activation_bytes")


def test_constraints_that_exclude_each_other(tmp_path: Path) -> None:
    both = {**SMALL, "constraints": ["flops <= 60000", "flops >= 90000"]}
    spec, home = written(tmp_path / "spec.yaml", both), tmp_path / "home"
    refused(nas("search", spec, "--dry-run"), "no architecture", "flops <= 60000", code=3)
    refused(nas("search", spec, "--home", home), "no architecture", "flops >= 90000", code=3)
    assert not home.exists()


def test_commands_and_options_that_do_not_exist() -> None:
    refused(nas("serch"), "'serch'", "search")
    refused(nas("search", "--frobnicate"), "--frobnicate")
    refused(nas("search"), "SPEC.yaml", "--resume ID")
    refused(nas("search", DEMO, "--resume", "X"), "SPEC.yaml", "--resume ID")
    for more in (["--set", "batch=3"], ["--warm-start", "Y"], ["--dry-run"]):
        refused(nas("search", "--resume", "X", *more), "--resume", "cannot be changed")
    refused(nas("data", "prepare", "cifr10"), "'cifr10'", "did you mean 'cifar10'?")
    refused(nas("spaces", "show", "cifar"), "'cifar'", "did you mean 'cifar10'")
    assert nas().code == 2
    assert nas().err == ""


@pytest.mark.parametrize(
    "command",
    [
        ["search", "--resume", "01JABCDEFG"],
        ["search", str(DEMO), "--warm-start", "01JABCDEFG"],
        ["confirm", "01JABCDEFG"],
        ["pareto", "01JABCDEFG"],
        ["compare", "01JABCDEFG", "01JABCDEFH"],
        ["store", "rebuild", "01JABCDEFG"],
    ],
)
def test_an_unknown_id(command: list[str], tmp_path: Path, finished: Finished) -> None:
    home = tmp_path / "home"
    refused(nas(*command, "--home", home), "'01JABCDEFG'", str(home), "no record")
    assert not home.exists()
    before = rows(finished.home, "searches", "id")
    refused(nas(*command, "--home", finished.home), "'01JABCDEFG'", finished.id)
    assert rows(finished.home, "searches", "id") == before


def test_a_finished_search_is_not_resumed(finished: Finished) -> None:
    said = nas("search", "--resume", finished.id, "--home", finished.home)
    assert said.code == 2
    assert f"search {finished.id} is finished" in said.err
    assert f"nas pareto {finished.id}" in said.err
    assert "Traceback" not in said.err


def test_a_record_that_cannot_be_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, home = written(tmp_path / "spec.yaml", SMALL), tmp_path / "home"
    wrong = {
        "nonsense": "no usable database URL",
        "nosuch://host/database": "install the driver",
        f"sqlite:///{spec}": "something else",
        f"sqlite:///{spec}/record.db": "unable to open",
    }
    for url, word in wrong.items():
        monkeypatch.setenv("NAS_DATABASE_URL", url)
        refused(nas("search", spec, "--home", home), word)
        assert not home.exists()


def test_a_password_is_never_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAS_DATABASE_URL", "nosuch://someone:secret@host/database")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://someone:secret@127.0.0.1:1")
    said = nas("doctor", "--home", tmp_path)
    assert said.code == 1
    assert "secret" not in said.out + said.err
    refused(nas("pareto", "01JABCDEFG"), "someone:***@host")


def test_mlflow_that_cannot_be_reached(finished: Finished) -> None:
    said = nas("store", "rebuild", finished.id, "--home", finished.home)
    refused(said, "MLflow http://127.0.0.1:1", "nothing is lost")
    said = nas("store", "rebuild", finished.id, "--record", "--home", finished.home)
    refused(said, "MLflow http://127.0.0.1:1")


def test_a_folder_that_cannot_be_written(tmp_path: Path, finished: Finished) -> None:
    spec = written(tmp_path / "spec.yaml", SMALL)
    refused(nas("search", spec, "--home", spec / "home"), str(spec))
    refused(nas("search", spec, "--home", spec), str(spec))
    page = spec / "page.html"
    said = nas("pareto", finished.id, "--home", finished.home, "--html", page)
    refused(said, f"--html {page}", "cannot be written")


# -- data ------------------------------------------------------------------------------------------


def cifar10(tmp_path: Path) -> tuple[Path, Path]:
    """A CIFAR-10 request, and where its data are looked for."""
    request = {**SMALL, "task": "cifar10", "space": "cifar10_small"}
    folder = tmp_path / "data" / "cifar10" / "cifar-10-batches-py"
    return written(tmp_path / "spec.yaml", request), folder


def photos(folder: Path, **classes: int) -> Path:
    """So many grey images in each class."""
    for place, (name, count) in enumerate(classes.items()):
        (folder / name).mkdir(parents=True)
        for n in range(count):
            level = 40 + 160 * place
            Image.new("RGB", (8, 8), (level, level + n % 9, level)).save(folder / name / f"{n}.png")
    return folder


def test_what_a_run_would_fail_of_at_once_is_never_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    spec, folder = cifar10(tmp_path)
    few = {"name": "image_folder", "path": str(photos(tmp_path / "few", oak=9, elm=1)), "side": 8}
    wrong: list[tuple[Any, list[str]]] = [
        (spec, [str(folder), "data_batch_1 is missing", "nas data prepare cifar10"]),
        ({"evaluation": {"examples": 100_000}}, ["evaluation.examples: 100000 given, 1 to 360"]),
        ({"task": few}, [f"{tmp_path}/few/elm: 1 image there", "at least 2 are needed"]),
        ({"executor": {"name": "local", "gpus": 1}}, ["executor.gpus: 1", "torch sees 0 GPUs"]),
    ]
    home = tmp_path / "home"
    for given, words in wrong:
        changed = given if given is spec else written(tmp_path / "s.yaml", {**SMALL, **given})
        for more in ([], ["--dry-run"]):
            refused(nas("search", changed, "--home", home, *more), *words)
            assert not home.exists()


def test_broken_data_are_found_before_anything_is_trained(tmp_path: Path) -> None:
    spec, folder = cifar10(tmp_path)
    home = tmp_path / "home"
    # Taken in by a machine that does not run it.
    search = submit(load_spec(spec), workspace(home)).id
    folder.mkdir(parents=True)
    (folder / "data_batch_1").write_bytes(b"cut off")
    said = nas("search", "--resume", search, "--home", home)
    assert said.code == 2
    assert "data_batch_1 is truncated or altered (wrong md5)" in said.err
    assert f"go on with: nas search --resume {search} --home {home}" in said.err
    assert "Traceback" not in said.err
    [(state, error)] = rows(home, "searches", "state, error")
    assert state == "failed"
    assert str(folder) in error
    assert rows(home, "trials") == []
    assert not (home / "supernets").exists()


def test_a_search_goes_on_when_its_data_are_there(tmp_path: Path) -> None:
    folder = photos(tmp_path / "data" / "photos", dark=30, light=30)
    broken = folder / "light" / "3.png"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:40])
    task = {"name": "image_folder", "path": "photos", "side": 8, "validation": 0.2}
    changes = {"task": task, "evaluation": {"examples": 10}, "controls": {"random": 2}}
    spec = written(tmp_path / "spec.yaml", {**SMALL, **changes})
    said = nas("search", spec, "--home", tmp_path / "home")
    assert said.code == 2
    assert str(broken) in said.err
    assert not (tmp_path / "home" / "supernets").exists()
    broken.write_bytes(whole)
    [(search, state)] = rows(tmp_path / "home", "searches", "id, state")
    assert state == "failed"
    assert nas("search", "--resume", search, "--home", tmp_path / "home").code == 0
    assert rows(tmp_path / "home", "searches", "state, error") == [("succeeded", None)]


# -- codes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SpecError("x"), 2),
        (SearchNotFound("x"), 2),
        (SearchStateError("x"), 2),
        (StoreUnavailable("x"), 2),
        (DataError("x"), 2),
        (PartNotInstalled("x"), 2),
        (NothingFeasible("x"), 3),
        (TrainingDiverged("x"), 1),
        (CheckpointError("x"), 1),
        (LeaseLost("x"), 1),
    ],
)
def test_the_exit_code_of_each_error(
    error: EtnasError, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(app, "app", fail)
    refused(nas("anything"), "x", code=code)


def test_a_fault_of_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise TypeError("a fault")

    monkeypatch.setattr(app, "app", fail)
    with pytest.raises(TypeError, match="a fault"):
        nas("anything")


def test_a_full_disk_is_no_wrong_input(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", "/some/file")

    monkeypatch.setattr(app, "app", fail)
    refused(nas("anything"), "/some/file: No space left on device", code=1)
