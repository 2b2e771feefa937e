"""Does a run learn, and does it go on after any interruption as if there had been none?"""

import errno
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.nn.functional import cross_entropy
from torch.nn.utils import parameters_to_vector
from torch.optim import SGD

from nas.errors import CheckpointError, TrainingDiverged
from nas.model.network import StandaloneNetwork
from nas.search.recipe import TrainingRecipe
from nas.task.task import ImageData
from nas.train import checkpoint
from nas.train.loop import Progress, learning_rate, optimizer_for
from nas.train.standalone import load_standalone, standalone_file, train_standalone
from nas.train.supernet import load_supernet, supernet_file, train_supernet
from tests.train.cases import finish, leave_at_save, request

AUGMENTED = {"augmentation": {"crop_padding": 1, "randaugment_layers": 1}}
ROOT = Path(__file__).parents[2]


def curve(reports: list[Progress]) -> dict[int, float]:
    return {report.step: report.loss for report in reports}


def written(folder: Path) -> tuple[int, int]:
    """Which file the supernet is and when it was written, but not when it was last read."""
    found = supernet_file(folder).stat()
    return found.st_ino, found.st_mtime_ns


def same_weights(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    pairs = zip(one.state_dict().items(), other.state_dict().items(), strict=True)
    return all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("sampling", ["uniform", "fair", "sandwich"])
def test_an_abandoned_run_goes_on_bit_by_bit(
    sampling: str, precision: str, data: ImageData, tmp_path: Path
) -> None:
    spec = request({"sampling": sampling, "precision": precision, **AUGMENTED})
    whole = finish(train_supernet(spec, data, tmp_path / "whole", "cpu"))
    left = leave_at_save(train_supernet(spec, data, tmp_path / "cut", "cpu"))
    assert left.step == 17
    rest = finish(train_supernet(spec, data, tmp_path / "cut", "cpu"))
    assert [report.step for report in whole] == [10, 17, 20, 30]
    assert curve(rest) == {step: curve(whole)[step] for step in (20, 30)}
    assert rest[-1].saved
    assert rest[-1].seconds > left.seconds
    networks = [load_supernet(spec, tmp_path / each, "cpu") for each in ("whole", "cut")]
    assert same_weights(*networks)
    assert not networks[0].training


def test_a_killed_process_is_resumed_bit_by_bit(data: ImageData, tmp_path: Path) -> None:
    changes = {"steps": 200, "checkpoint_every": 10}
    code = f"""
import torch
torch.set_num_threads(1)
from pathlib import Path
from types import SimpleNamespace
from nas import catalog
from nas.train.supernet import train_supernet
from tests.train.cases import request
spec = request({changes!r})
task = catalog.TASKS.load("digits")
data = task.load(task.options_model(), Path("nowhere"))
for report in train_supernet(spec, data, Path({str(tmp_path / "cut")!r}), "cpu"):
    print(report.step, flush=True)
"""
    path = os.pathsep.join([str(ROOT), str(ROOT / "kernels")])
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path},
    ) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if int(line) >= 20:
                break
        child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
    spec = request(changes)
    saved = checkpoint.read_state(supernet_file(tmp_path / "cut"), {})
    assert 20 <= saved.step < 200
    rest = finish(train_supernet(spec, data, tmp_path / "cut", "cpu"))
    whole = finish(train_supernet(spec, data, tmp_path / "whole", "cpu"))
    assert [report.step for report in rest] == list(range(saved.step + 10, 201, 10))
    assert curve(rest).items() <= curve(whole).items()
    networks = [load_supernet(spec, tmp_path / each, "cpu") for each in ("whole", "cut")]
    assert same_weights(*networks)


def test_a_run_stopped_between_its_steps_goes_on_from_the_checkpoint_of_the_clock(
    data: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = request({"steps": 60, "checkpoint_every": 50})
    whole = finish(train_supernet(spec, data, tmp_path / "whole", "cpu"))
    assert [report.step for report in whole if report.saved] == [50, 60]
    clock = SimpleNamespace(now=1000.0)
    clock.perf_counter = lambda: clock.now
    monkeypatch.setattr("nas.train.loop.time", clock)
    run = train_supernet(spec, data, tmp_path / "cut", "cpu")
    seen = []
    # Two minutes count from the last checkpoint, and from the start before there is any.
    for now in (1000.0, 1119.0, 1120.0, 1239.0):
        clock.now = now
        seen.append(next(run))
    assert [(report.step, report.saved) for report in seen] == [
        (10, None),
        (20, None),
        (30, supernet_file(tmp_path / "cut")),
        (40, None),
    ]
    run.close()
    assert checkpoint.read_state(supernet_file(tmp_path / "cut"), {}).step == 30
    rest = finish(train_supernet(spec, data, tmp_path / "cut", "cpu"))
    assert curve(rest) == {step: curve(whole)[step] for step in (40, 50, 60)}
    networks = [load_supernet(spec, tmp_path / each, "cpu") for each in ("whole", "cut")]
    assert same_weights(*networks)


def test_a_finished_run_is_found_and_not_trained_again(data: ImageData, tmp_path: Path) -> None:
    spec = request()
    last = finish(train_supernet(spec, data, tmp_path, "cpu"))[-1]
    before = written(tmp_path)
    assert finish(train_supernet(spec, data, tmp_path, "cpu")) == [last]
    assert written(tmp_path) == before
    # What only the training needs is not kept.
    assert all(name.startswith("weight/") for name in load_file(supernet_file(tmp_path)))


def test_an_unfinished_or_missing_run_is_not_loaded(data: ImageData, tmp_path: Path) -> None:
    spec = request()
    with pytest.raises(CheckpointError, match="no checkpoint here"):
        load_supernet(spec, tmp_path, "cpu")
    leave_at_save(train_supernet(spec, data, tmp_path, "cpu"))
    with pytest.raises(CheckpointError, match="stands at step 17"):
        load_supernet(spec, tmp_path, "cpu")


def test_another_run_s_checkpoint_is_refused(data: ImageData, tmp_path: Path) -> None:
    leave_at_save(train_supernet(request(), data, tmp_path, "cpu"))
    before = supernet_file(tmp_path).read_bytes()
    for other in (request({"learning_rate": 0.1}), request(seed=1), request(space="digits_tiny")):
        with pytest.raises(CheckpointError, match="another run: its supernet digest"):
            finish(train_supernet(other, data, tmp_path, "cpu"))
    split = {**data.__dict__, "digest": "0" * 64}
    with pytest.raises(CheckpointError, match="data digest"):
        finish(train_supernet(request(), ImageData(**split), tmp_path, "cpu"))
    assert supernet_file(tmp_path).read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"nonsense", None], ids=["empty", "other", "truncated"])
def test_a_broken_file_is_named(content: bytes | None, data: ImageData, tmp_path: Path) -> None:
    spec = request()
    leave_at_save(train_supernet(spec, data, tmp_path, "cpu"))
    file = supernet_file(tmp_path)
    file.write_bytes(file.read_bytes()[:-100] if content is None else content)
    with pytest.raises(CheckpointError, match=r"supernet\.safetensors: not readable"):
        finish(train_supernet(spec, data, tmp_path, "cpu"))


ODD: list[Any] = [
    5,
    [],
    {},
    {"identity": ["a"]},
    {"identity": None},
    {"precision": 16},
    {"step": "17"},
    {"step": 1.5},
    {"loss": "small"},
    {"seconds": None},
    {"complete": "no"},
    {"stopped": 0},
    {"history": 3},
    {"history": [3]},
    {"more": 1},
]


@pytest.mark.parametrize("change", ODD, ids=str)
def test_an_odd_state_is_refused(change: Any, data: ImageData, tmp_path: Path) -> None:
    spec, file = request(), supernet_file(tmp_path)
    leave_at_save(train_supernet(spec, data, tmp_path, "cpu"))
    with safe_open(file, framework="pt") as opened:
        state = json.loads(opened.metadata()["etnas"])
    odd = {**state, **change} if isinstance(change, dict) and change else change
    save_file(load_file(file), file, {"etnas": json.dumps(odd)})
    message = r"supernet\.safetensors: not readable as a checkpoint.*move it away to train anew$"
    with pytest.raises(CheckpointError, match=message):
        finish(train_supernet(spec, data, tmp_path, "cpu"))
    with pytest.raises(CheckpointError, match=message):
        load_supernet(spec, tmp_path, "cpu")
    file.unlink()
    assert finish(train_supernet(spec, data, tmp_path, "cpu"))[-1].step == 30


@pytest.mark.parametrize("part", ["weight/", "exp_avg/"])
def test_a_checkpoint_that_lacks_tensors_is_refused(
    part: str, data: ImageData, tmp_path: Path
) -> None:
    spec, file = request(), supernet_file(tmp_path)
    leave_at_save(train_supernet(spec, data, tmp_path, "cpu"))
    with safe_open(file, framework="pt") as opened:
        metadata = opened.metadata()
    held = load_file(file)
    del held[next(name for name in held if name.startswith(part))]
    save_file(held, file, metadata)
    with pytest.raises(CheckpointError, match=r"does not fit.*move it away to train anew$"):
        finish(train_supernet(spec, data, tmp_path, "cpu"))


# -- faults of the disk ----------------------------------------------------------------------------


def full_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("fault", ["os.fsync", "pathlib.Path.replace"])
def test_a_disk_that_fills_leaves_the_previous_checkpoint(
    fault: str, data: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = request()
    run = train_supernet(spec, data, tmp_path, "cpu")
    assert leave_at_save(run).step == 17
    before = supernet_file(tmp_path).read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(fault, full_disk)
        with pytest.raises(CheckpointError, match=r"No space left.*previous one is untouched"):
            finish(run)
    assert {each.name for each in tmp_path.iterdir()} == {"supernet.safetensors", "supernet.lock"}
    assert supernet_file(tmp_path).read_bytes() == before
    assert finish(train_supernet(spec, data, tmp_path, "cpu"))[-1].step == 30


def test_a_write_cut_short_by_the_system_leaves_nothing(tmp_path: Path) -> None:
    file, state = tmp_path / "a.safetensors", checkpoint.State({}, "float32", loss=0.0)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(CheckpointError, match=r"a\.safetensors.*there is no earlier one"):
            checkpoint.write(file, {"weight/x": torch.zeros(10_000)}, state)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []
    checkpoint.write(file, {"weight/x": torch.zeros(10_000)}, state)
    assert checkpoint.read_state(file, {}) == state


def test_what_a_killed_write_left_is_removed(data: ImageData, tmp_path: Path) -> None:
    (tmp_path / ".supernet.safetensors.0123").write_bytes(b"half")
    finish(train_supernet(request(), data, tmp_path, "cpu"))
    left = {each.name for each in tmp_path.iterdir()}
    assert left == {"supernet.safetensors", "supernet.lock"}


def test_one_run_at_a_time_trains_into_a_file(
    data: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nas.train.loop.WAIT_SECONDS", 0.0)
    spec = request()
    whole = finish(train_supernet(spec, data, tmp_path / "whole", "cpu"))
    first = train_supernet(spec, data, tmp_path / "shared", "cpu")
    second = train_supernet(spec, data, tmp_path / "shared", "cpu")
    assert next(first).step == 10
    seen = next(second)
    assert (seen.step, seen.steps, seen.waiting) == (0, 30, "another process trains it")
    assert next(first).saved == supernet_file(tmp_path / "shared")
    assert next(second).step == 17
    # The first is given up between two checkpoints; the second goes on from the last one.
    assert next(first).step == 20
    first.close()
    rest = finish(second)
    assert not any(report.waiting for report in rest)
    assert curve(rest) == {step: curve(whole)[step] for step in (20, 30)}
    networks = [load_supernet(spec, tmp_path / each, "cpu") for each in ("whole", "shared")]
    assert same_weights(*networks)


def test_who_waited_finds_it_trained(
    data: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nas.train.loop.WAIT_SECONDS", 0.0)
    first, second = (train_supernet(request(), data, tmp_path, "cpu") for _ in range(2))
    next(first)
    assert next(second).waiting
    last = finish(first)[-1]
    before = written(tmp_path)
    assert finish(second) == [last]
    assert written(tmp_path) == before


def test_where_nothing_can_be_locked_training_goes_on(
    data: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", no_locks)
    assert finish(train_supernet(request(), data, tmp_path, "cpu"))[-1].step == 30


def test_no_checkpoint_is_open_between_reports(data: ImageData, tmp_path: Path) -> None:
    leave_at_save(train_supernet(request(), data, tmp_path, "cpu"))
    for _ in train_supernet(request(), data, tmp_path, "cpu"):
        maps = Path("/proc/self/maps").read_text() if Path("/proc/self/maps").exists() else ""
        handles = Path("/proc/self/fd")
        opened = [str(each.resolve()) for each in handles.iterdir()] if handles.exists() else []
        assert str(tmp_path) not in maps
        assert {each for each in opened if each.startswith(str(tmp_path))} <= {
            str(tmp_path / "supernet.lock")
        }


# -- learning --------------------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_ends_the_run_with_its_step(
    data: ImageData, tmp_path: Path
) -> None:
    diverging = {"learning_rate": 1e30, "warmup_steps": 0, "checkpoint_every": 2}
    spec = request(diverging, diverging)
    with pytest.raises(TrainingDiverged, match=r"at step \d+ of training") as caught:
        finish(train_supernet(spec, data, tmp_path, "cpu"))
    assert isinstance(caught.value, ArithmeticError)
    saved = supernet_file(tmp_path)
    weights = load_file(saved).values() if saved.exists() else []
    assert all(torch.isfinite(each).all() for each in weights)


@pytest.mark.parametrize("clip_norm", [1e-3, 1e6])
def test_a_gradient_is_cut_to_the_longest_that_is_allowed(
    clip_norm: float, data: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Its update is the gradient itself, times the rate.
    monkeypatch.setattr("nas.train.loop.optimizer_for", lambda net, _: SGD(net.parameters(), lr=1))
    once = {"steps": 1, "warmup_steps": 0, "learning_rate": 0.5, "precision": "float32"}
    spec = request(standalone={**once, "clip_norm": clip_norm})
    architecture, recipe = spec.search_space.extreme("largest"), spec.standalone
    network = StandaloneNetwork(architecture, spec.task_shape, 3)
    before = parameters_to_vector(network.parameters()).detach()
    batch = data.training_batch(0, recipe, 3)
    scores = network(batch.inputs)
    loss = cross_entropy(scores, batch.labels, label_smoothing=recipe.label_smoothing)
    raw = parameters_to_vector(torch.autograd.grad(loss, list(network.parameters())))
    assert 1e-3 < raw.norm() < 1e6

    given: dict[str, Any] = {"seed": 3, "folder": tmp_path, "device": "cpu"}
    finish(train_standalone(architecture, spec, data, **given))
    trained = load_standalone(architecture, spec, **given)
    update = parameters_to_vector(trained.parameters()).detach() - before
    cut = raw * min(1.0, clip_norm / raw.norm().item())
    assert (update + 0.5 * cut).norm() < 1e-2 * 0.5 * cut.norm()


def test_the_learning_rate_warms_up_and_falls_to_zero() -> None:
    recipe = TrainingRecipe(steps=110, warmup_steps=10, learning_rate=0.4)
    rates = [learning_rate(recipe, step) for step in range(110)]
    assert rates[:10] == pytest.approx([0.04 * (i + 1) for i in range(10)])
    assert rates[10] == pytest.approx(0.4)
    assert rates[60] == pytest.approx(0.2)
    assert 0 < rates[-1] < 2e-4
    assert rates[9:] == sorted(rates[9:], reverse=True)
    assert learning_rate(TrainingRecipe(steps=5, warmup_steps=50), 4) == pytest.approx(1e-3)


def test_only_maps_decay() -> None:
    from nas.model.supernet import Supernet

    spec = request(space="digits_tiny")
    supernet = Supernet(spec.search_space, spec.task_shape)
    decays, rests = optimizer_for(supernet, spec.supernet).param_groups
    assert (decays["weight_decay"], rests["weight_decay"]) == (0.05, 0.0)
    names = {parameter: name for name, parameter in supernet.named_parameters()}
    decaying = {names[each] for each in decays["params"]}
    assert decaying | {names[each] for each in rests["params"]} == set(names.values())
    for name in names.values():
        role = name.split(".")[-1].split("@")[0]
        assert (name in decaying) == (role.endswith("weight") and "norm" not in name), name


def test_a_network_alone_resumes_and_learns(data: ImageData, tmp_path: Path) -> None:
    recipe = {"steps": 300, "batch_size": 32, "checkpoint_every": 100, "learning_rate": 1e-2}
    spec = request(standalone=recipe)
    architecture = spec.search_space.extreme("largest")
    given: dict[str, Any] = {"seed": 3, "device": "cpu"}
    run = train_standalone(architecture, spec, data, folder=tmp_path / "cut", **given)
    assert leave_at_save(run).step == 100
    run.close()
    for folder in ("cut", "whole"):
        finish(train_standalone(architecture, spec, data, folder=tmp_path / folder, **given))
        assert standalone_file(tmp_path / folder, architecture, 3).exists()
    cut, whole = (
        load_standalone(architecture, spec, folder=tmp_path / each, **given)
        for each in ("cut", "whole")
    )
    assert same_weights(cut, whole)
    test = data.test()
    with torch.inference_mode():
        hits = cut(data.normalise(test.images)).argmax(1) == test.labels
    assert hits.float().mean() > 0.8
