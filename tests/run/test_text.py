"""A whole search of translation networks on generated sentences, from the request to its report."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from nas import catalog
from nas.errors import DataChanged, DataError, SpecError
from nas.run import confirm, running
from nas.run.evaluate import Evaluator, Setup, train
from nas.run.translating import translated
from nas.run.workspace import Workspace
from nas.search.spec import SearchSpec
from nas.search.trial import Measurement, Proposal, Standing, Trial
from nas.store.sql import SqlStore
from nas.train.standalone import load_standalone
from tests.run.cases import (
    facts,
    finish,
    full_report,
    no_projector,
    outcome,
    place_in,
    short_report,
)
from tests.run.test_recovery import recover
from tests.task import small_numbers
from tests.task.small_corpus import write_corpus
from tests.task.small_numbers import small_data, smallest

SMALL: dict[str, Any] = {
    "supernet": {"steps": 20, "checkpoint_every": 10},
    "standalone": {"steps": 20, "dropout": 0.1},
    "strategy": {"name": "evolution", "population": 4},
    "batch": 4,
    "budget": {"trials": 4},
    "evaluation": {"examples": 30, "beam": 2, "length_penalty": 1.0},
    "controls": {"random": 2, "homogeneous": 1},
    "confirmation": {"members": 1, "seeds": 2, "flops_tolerance": 0.5},
    "executor": "local",
    "seed": 3,
}
GIVEN = {"loss", "perplexity"}


def request(**changes: Any) -> SearchSpec:
    return small_numbers.request(**{**SMALL, **changes})


@pytest.fixture(scope="module")
def confirmed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, str]:
    """A search and its confirmation."""
    place = place_in(tmp_path_factory.mktemp("confirmed"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "Projector", no_projector)
        record = finish(request(), place)
        confirm.confirm(record.id, place, reporter=full_report)
    return place, record.id


def of(confirmed: tuple[Workspace, str], *roles: str) -> list[Trial]:
    place, id = confirmed
    return [trial for trial in SqlStore(place.record_url).trials(id) if trial.role in roles]


# -- a search and its confirmation -----------------------------------------------------------------


def test_slices_are_scored_by_loss_and_perplexity(confirmed: tuple[Workspace, str]) -> None:
    trials = of(confirmed, "search", "random", "homogeneous")
    assert len(trials) >= 4 + 2 + 1
    for trial in trials:
        assert trial.succeeded, trial.measurement.reason
        assert trial.metrics.keys() >= {*GIVEN, "loss_paired_se", "flops", "params"}
        assert not {"test_exact_match", "exact_match"} & trial.metrics.keys()
        loss = torch.tensor(trial.metrics["loss"], dtype=torch.float64)
        assert trial.metrics["perplexity"] == pytest.approx(loss.exp().item())
        assert loss < 6.5
    assert {trial.architecture.kind for trial in trials} == {"encoder_decoder"}


def test_networks_trained_alone_are_judged_by_what_they_write(
    confirmed: tuple[Workspace, str],
) -> None:
    place, id = confirmed
    trials = of(confirmed, "confirmed")
    assert len(trials) >= 4
    for trial in trials:
        assert trial.succeeded, trial.measurement.reason
        assert trial.metrics.keys() >= GIVEN | {f"test_{name}" for name in GIVEN}
        assert 0 <= trial.metrics["test_exact_match"] <= 1
        assert 0 <= trial.metrics["test_chrf"] <= 100
    recorded = SqlStore(place.record_url).get(id).facts
    how = "beam 2, length penalty 1, "
    (told,), (signature,) = (
        json.loads(recorded[f"test_{name}_provenance"]) for name in ("exact_match", "chrf")
    )
    assert told == how + "nrefs:1|case:mixed|n:20"
    assert signature.startswith(how + "nrefs:1|case:mixed|")
    assert "version:" in signature
    assert "torch" in recorded["confirmation_provenance"]

    spec, trial = request(), trials[0]
    seed = Standing.of(trial).seed
    assert seed is not None
    folder = place.standalone(id)
    network = load_standalone(trial.architecture, spec, seed=seed, folder=folder, device="cpu")
    data = small_data(spec)
    chosen = data.test()
    written, true = translated(network, data, chosen, spec.evaluation), data.references(chosen)
    values, _ = catalog.TASKS.load(spec.task.name).judged(written, true)
    assert {
        f"test_{name}": value for name, value in values.items()
    }.items() <= trial.metrics.items()
    assert len(set(written)) > 1


@pytest.mark.usefixtures("without_mlflow")
def test_networks_are_compared_on_the_same_whole_test_set(place: Workspace) -> None:
    folder = write_corpus(place.data_root / "mine")
    task = {"name": "parallel_text", "path": "mine", "source": "en", "target": "de"}
    record = finish(request(task={**task, "vocabulary": 300}), place)
    store, file = SqlStore(place.record_url), folder / "test.de"
    whole = file.read_text()
    file.write_text(whole.replace("\n", "\n\n", 1).removesuffix("\n").rpartition("\n")[0] + "\n")
    with pytest.raises(DataError, match=r"test\.de:2: an empty line"):
        confirm.confirm(record.id, place, reporter=short_report)
    # Nothing was trained for a test that cannot be.
    assert not list(place.standalone(record.id).glob("*.safetensors"))
    file.write_text(whole)

    def edit(update: running.Update) -> None:
        if (update.phase, update.done) == ("confirmed", 2):
            file.write_text(whole.replace("Haus", "Maus"))

    # In one run, and when it goes on: neither tests on others, nor takes a network for a failure.
    for listener in (edit, lambda _: None):
        with pytest.raises(DataChanged, match="parallel_text: its test examples have changed"):
            confirm.confirm(record.id, place, reporter=short_report, listener=listener)
        assert store.count(record.id, "confirmed") == 2
    file.write_text(whole)
    confirm.confirm(record.id, place, reporter=short_report)
    trained = store.trials(record.id, "confirmed")
    assert len(trained) > 2
    assert all(trial.succeeded for trial in trained)


# -- what a score depends on -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Setup:
    """A trained supernet."""
    made = setup_of(request(), tmp_path_factory.mktemp("setup"))
    before = torch.get_num_threads()
    assert list(train(made))[-1].step == 20
    torch.set_num_threads(before)
    return made


def setup_of(spec: SearchSpec, root: Path) -> Setup:
    return Setup.of(spec, root / "supernet", root / "standalone", root)


def measured(setup: Setup, role: Any = "search", **changes: Any) -> Measurement:
    spec = request(**changes)
    root = setup.supernet.parent
    label = Standing("member", None, 1).label() if role == "confirmed" else ""
    found = Evaluator(setup_of(spec, root))(Proposal(role, 0, smallest(spec), label))
    assert found.state == "succeeded", found.reason
    return found


@pytest.mark.parametrize("role", ["search", "confirmed"])
def test_scores_do_not_depend_on_the_batch(role: str, setup: Setup) -> None:
    one, other = (
        measured(setup, role, evaluation={**SMALL["evaluation"], "batch_tokens": tokens}).metrics
        for tokens in (1, 8000)
    )
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert value == pytest.approx(other[name], rel=1e-5), name


def test_the_latency_of_both_parts_is_measured(setup: Setup) -> None:
    quick = {"beam": 2, "source_length": 3, "target_length": 2, "warmup": 0, "repetitions": 3}
    found = measured(setup, objectives=["loss", "latency_ms"], latency=quick)
    parts = [found.metrics[f"latency_{name}_ms"] for name in ("encoder", "decoder")]
    assert min(parts) > 0
    assert found.metrics["latency_ms"] >= max(parts)
    assert "latency_ms" in found.provenance


# -- what is found before anything is trained ------------------------------------------------------


@pytest.mark.parametrize("where", ["supernet", "standalone"])
def test_batches_that_hold_no_sentence_are_found_first(where: str, tmp_path: Path) -> None:
    spec = request(**{where: {**SMALL[where], "batch_tokens": 7}})
    with pytest.raises(SpecError, match=rf"{where}\.batch_tokens: 7 given, at least \d+ allowed"):
        next(train(setup_of(spec, tmp_path)))
    assert not (tmp_path / "supernet").exists()


# -- interruptions ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_killed_again_and_again(place: Workspace, tmp_path: Path) -> None:
    spec = request(
        supernet={"steps": 300, "dropout": 0.1, "checkpoint_every": 10},
        budget={"trials": 40},
        controls={"random": 10, "homogeneous": 2},
    )
    undisturbed = place_in(tmp_path / "undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "Projector", no_projector)
        expected = finish(spec, undisturbed).id
    id = recover(place, spec, ["supernet", "search"])
    assert outcome(place, id) == outcome(undisturbed, expected)
    assert facts(SqlStore(place.record_url).trials(id))


def test_pairs_that_are_not_learnt_from_are_counted_in_the_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "Projector", no_projector)
    task = {**small_numbers.TASK, "max_length": 20}
    spec = request(task=task, budget={"trials": 1}, controls={"random": 0, "homogeneous": 0})
    left = small_data(spec).skipped
    assert list(left) == ["longer than max_length"]
    record = finish(spec, place_in(tmp_path))
    told = f"{left['longer than max_length']:,} longer than max_length"
    assert record.facts["training_examples_left_out"] == told
    assert "training_examples_left_out" not in finish(request(), place_in(tmp_path)).facts
