"""Are parallel files learnt from as they are, and translations judged as sacrebleu does?"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy
import pytest
import torch
from pydantic import ValidationError

from nas.errors import DataError, SpecError
from nas.search.recipe import TrainingRecipe
from nas.search.stages import Evaluation
from nas.space.task_shape import TextShape
from nas.task.text_data import TextData
from nas.task.text_task import TextOptions, text_metrics
from nas.task.translation import PARALLEL_TEXT, WMT14_EN_DE, ParallelTextOptions
from tests.task.small_corpus import SIZES, real_text, sentence_pairs, write, write_corpus
from tests.task.text_conformance import TextTaskConformance


def options_for(folder: Path, **given: Any) -> ParallelTextOptions:
    return ParallelTextOptions(
        path=str(folder), source="en", target="de", **{"vocabulary": 320, **given}
    )


class TestParallelText(TextTaskConformance):
    name = "parallel_text"

    @pytest.fixture(scope="class")
    @classmethod
    def root(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        return write_corpus(tmp_path_factory.mktemp("root") / "mine").parent

    @pytest.fixture(scope="class")
    @classmethod
    def options(cls, root: Path) -> ParallelTextOptions:
        return options_for(root / "mine")

    def test_the_texts_are_those_of_the_files(self, data: TextData, root: Path) -> None:
        for split, chosen in (("valid", data.validation()), ("test", data.test())):
            for side, texts in (("en", data.sources(chosen)), ("de", data.references(chosen))):
                lines = (root / "mine" / f"{split}.{side}").read_text().splitlines()
                assert sorted(texts) == sorted(lines)
        # The test stands as in its files; a part of the validation pairs is a sample of all.
        assert data.sources(data.test()) == (root / "mine/test.en").read_text().splitlines()
        assert data.sources(data.validation()) != (root / "mine/valid.en").read_text().splitlines()

    def test_a_relative_path_is_under_the_data_root(self, root: Path, data: TextData) -> None:
        assert PARALLEL_TEXT.load(options_for(Path("mine")), root).digest == data.digest

    def test_other_limits_and_pieces_are_other_data(self, root: Path, data: TextData) -> None:
        others: tuple[dict[str, Any], ...] = (
            {"max_length": 60},
            {"length_ratio": 1.6},
            {"length_margin": 9},
            {"vocabulary": 310},
        )
        digests = {PARALLEL_TEXT.load(options_for(root / "mine", **o), root).digest for o in others}
        assert len({data.digest, *digests}) == 5

    def test_prepare_says_what_there_is(self, options: ParallelTextOptions, root: Path) -> None:
        said = PARALLEL_TEXT.prepare(options, root)
        assert f"complete in {root / 'mine'}: pairs 300 in train, 40 in valid, 30 in test" in said

    def test_a_batch_too_small_for_the_longest_pair_is_refused(self, data: TextData) -> None:
        longest = int(max(data.train.source_tokens.max(), data.train.target_tokens.max()))
        with pytest.raises(
            SpecError, match=rf"batch_tokens: {longest - 1} given, at least {longest}"
        ):
            data.training_batch(0, TrainingRecipe(batch_tokens=longest - 1), 0)
        data.training_batch(0, TrainingRecipe(batch_tokens=longest), 0)

    def test_a_device_is_kept(self, data: TextData) -> None:
        there = data.to("meta")
        batch = there.training_batch(0, TrainingRecipe(batch_tokens=300), 0)
        assert {part.device.type for part in (*batch.inputs, batch.labels)} == {"meta"}
        assert batch.positions.device.type == "cpu"


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return write_corpus(tmp_path / "mine")


def change(file: Path, number: int, line: str) -> None:
    lines = file.read_text().splitlines()
    lines[number] = line
    write(file, lines)


def test_training_pairs_beyond_the_limits_are_counted_by_reason(corpus: Path) -> None:
    whole = PARALLEL_TEXT.load(options_for(corpus), corpus)
    assert whole.skipped == {}
    change(corpus / "train.de", 3, "")
    change(corpus / "train.en", 7, " \t")
    change(corpus / "train.en", 9, "Haus " * 60)
    change(corpus / "train.de", 9, "Haus " * 75)
    change(corpus / "train.en", 11, "Haus")
    change(corpus / "train.de", 11, "Haus " * 30)
    data = PARALLEL_TEXT.load(options_for(corpus, max_length=70, length_margin=9), corpus)
    lost = {"empty line": 2, "longer than max_length": 1, "target longer than its source allows": 1}
    assert data.skipped == lost
    assert sorted(set(range(300)) - set(data.train.positions.tolist())) == [3, 7, 9, 11]


def test_the_longest_target_is_the_one_that_decoding_may_write(corpus: Path) -> None:
    data = PARALLEL_TEXT.load(options_for(corpus, length_ratio=0.75, length_margin=3), corpus)
    assert 0 < data.skipped["target longer than its source allows"] < 300
    for step in range(20):
        inputs = data.training_batch(step, TrainingRecipe(batch_tokens=400), 0).inputs
        longest = numpy.ceil(0.75 * inputs.source_lengths.numpy() + 3)
        assert (inputs.target_lengths.numpy() <= longest).all()
    source, target = (
        side.lengths + 1 for side in (data.train.store.source, data.train.store.target)
    )
    assert (target > numpy.ceil(0.75 * source + 3)).sum() == 300 - len(data.train)


def test_of_validation_and_test_nothing_is_left_out(corpus: Path) -> None:
    for split in ("valid", "test"):
        change(corpus / f"{split}.en", 5, "Haus " * 90)
        change(corpus / f"{split}.en", 6, "Haus")
        change(corpus / f"{split}.de", 6, "Haus " * 30)
    data = PARALLEL_TEXT.load(options_for(corpus, max_length=80), corpus)
    for chosen, count in ((data.validation(), SIZES["valid"]), (data.test(), SIZES["test"])):
        assert len(chosen) == count
        broken = {"longer than max_length": 1, "target longer than its source allows": 1}
        assert data.beyond(chosen) == broken
        batches = data.batches(chosen, Evaluation(batch_tokens=64))
        assert sum(len(batch.positions) for batch in batches) == count
    assert data.skipped == {}


@pytest.mark.parametrize("split", ["valid", "test"])
def test_an_empty_line_of_validation_or_test_is_an_error(corpus: Path, split: str) -> None:
    change(corpus / f"{split}.de", 4, "")
    with pytest.raises(DataError, match=rf"{corpus}/{split}\.de:5: an empty line"):
        PARALLEL_TEXT.load(options_for(corpus), corpus).test()


def test_training_starts_without_reading_the_test(corpus: Path) -> None:
    (corpus / "test.de").write_bytes(b"\xff\n" * SIZES["test"])
    data = PARALLEL_TEXT.load(options_for(corpus), corpus)
    with pytest.raises(DataError, match=r"test\.de:1: not UTF-8"):
        data.test()


@pytest.mark.parametrize("split", ["train", "valid"])
def test_broken_files_are_named(corpus: Path, split: str) -> None:
    file = corpus / f"{split}.de"
    content = file.read_bytes()
    file.write_bytes(content + b"one more\n")
    with pytest.raises(DataError, match=rf"{split}\.en has {SIZES[split]} lines and .* has"):
        PARALLEL_TEXT.load(options_for(corpus), corpus)
    file.write_bytes(content.replace("ß".encode(), "ß".encode("latin-1"), 1))
    with pytest.raises(DataError, match=rf"{split}\.de:\d+: not UTF-8"):
        PARALLEL_TEXT.load(options_for(corpus), corpus)
    file.unlink()
    for ask in (PARALLEL_TEXT.load, PARALLEL_TEXT.held_out, PARALLEL_TEXT.prepare):
        with pytest.raises(DataError, match=rf"{corpus}: no {split}\.de; wanted there: train"):
            ask(options_for(corpus), corpus)


def test_nothing_left_to_learn_from_is_an_error(corpus: Path) -> None:
    with pytest.raises(DataError, match=r"no training pair of 300 is left \(longer than max_len"):
        PARALLEL_TEXT.load(options_for(corpus, max_length=1), corpus)


def test_changed_files_are_other_data(corpus: Path) -> None:
    digests = {PARALLEL_TEXT.load(options_for(corpus), corpus).digest}
    for split in ("train", "valid"):
        change(corpus / f"{split}.de", 0, "etwas anderes")
        digests.add(PARALLEL_TEXT.load(options_for(corpus), corpus).digest)
    assert len(digests) == 3


@pytest.mark.parametrize(
    ("model", "given"),
    [
        (TextOptions, {"vocabulary": 259}),
        (TextOptions, {"max_length": 0}),
        (TextOptions, {"length_ratio": -1.0}),
        (TextOptions, {"length_margin": 0}),
        (ParallelTextOptions, {"source": "../en"}),
        (ParallelTextOptions, {"path": ""}),
        (ParallelTextOptions, {"source": "de"}),
    ],
)
def test_options_out_of_range_are_refused(model: Any, given: dict[str, Any]) -> None:
    base = {"path": "x", "source": "en", "target": "de"} if model is ParallelTextOptions else {}
    with pytest.raises(ValidationError, match=next(iter(given))):
        model.model_validate(base | given)


def test_the_shape_is_that_of_the_options() -> None:
    options = TextOptions(vocabulary=500, target_length=40, length_ratio=2.0, length_margin=5)
    assert WMT14_EN_DE.shape(options) == TextShape(500, 500, 30, 40, 2.0, 5)


def test_loss_is_per_token_and_perplexity_its_exponential() -> None:
    generator = torch.Generator().manual_seed(0)
    outputs, labels = torch.randn(9, 7, generator=generator), torch.arange(9) % 7
    scores = PARALLEL_TEXT.score(outputs, labels, torch.tensor([2, 6, 1]))
    each = torch.nn.functional.cross_entropy(outputs, labels, reduction="none").double()
    want = torch.stack([each[:2].sum(), each[2:8].sum(), each[8]])
    torch.testing.assert_close(scores.losses, want)
    measured = PARALLEL_TEXT.summary(scores)
    assert measured["loss"] == pytest.approx(float(each.mean()))
    assert measured["perplexity"] == pytest.approx(float(each.mean().exp()))
    assert PARALLEL_TEXT.summary(scores._replace(losses=want * 1e6))["perplexity"] == float("inf")


# -- metrics ---------------------------------------------------------------------------------------


def test_scores_are_those_of_sacrebleus_command_line(tmp_path: Path) -> None:
    references = [target for _, target in sentence_pairs(60, 1)]
    hypotheses = [" ".join(line.split()[::-1][:9]) or line for line in references[:30]]
    hypotheses += [line.replace("Haus", "Hause") for line in references[30:]]
    write(tmp_path / "references", references)
    write(tmp_path / "hypotheses", hypotheses)
    values, signatures = text_metrics(hypotheses, references)
    for name in ("bleu", "chrf"):
        command = ["references", "-i", "hypotheses", "-m", name, "-w", "12"]
        for extra, want in ((["-b"], None), (["-f", "text"], signatures[name])):
            done = subprocess.run(
                [sys.executable, "-m", "sacrebleu", *command, *extra],
                cwd=tmp_path,
                capture_output=True,
                text=True,
                check=True,
            )
            if want is None:
                assert float(done.stdout) == pytest.approx(values[name], abs=1e-11)
            else:
                assert want in done.stdout
    assert 1 < values["bleu"] < values["chrf"] < 99


@pytest.mark.parametrize(("count", "others"), [(2, 3), (0, 0)])
def test_metrics_want_a_reference_for_each_translation(count: int, others: int) -> None:
    with pytest.raises(SpecError, match=f"{count} translations and {others} references given"):
        text_metrics(["a"] * count, ["a"] * others)


# -- public corpora --------------------------------------------------------------------------------


class RealCorpus(TextTaskConformance):
    """The conformance of a public corpus, in batches as large as in a search."""

    sizes: tuple[int, int, int]
    skipped: ClassVar[dict[str, int]]

    @pytest.fixture(scope="class")
    @classmethod
    def root(cls) -> Path:
        return real_text(cls.name)

    @pytest.fixture(scope="class")
    @classmethod
    def options(cls, task: Any) -> TextOptions:
        default: TextOptions = task.options_model()
        return default

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def larger_batches(cls) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("tests.task.text_conformance.RECIPE", TrainingRecipe())
            yield

    def test_pairs_are_kept_or_counted_and_little_is_padding(self, data: TextData) -> None:
        pairs, *others = self.sizes
        assert [len(data.valid), len(data.test())] == others
        assert data.skipped == self.skipped
        assert len(data.train) == pairs - sum(self.skipped.values())
        tokens = padded = seen = step = 0
        while seen < len(data.train):
            inputs = data.training_batch(step, TrainingRecipe(batch_tokens=2000), 0).inputs
            tokens += int(inputs.source_lengths.sum() + inputs.target_lengths.sum())
            padded += inputs.source.numel() + inputs.target.numel()
            seen += len(inputs.source)
            step += 1
        assert 1 - tokens / padded <= 0.10

    def test_complete_files_need_no_preparation(self, task: Any, options: Any, root: Path) -> None:
        assert task.prepare(options, root).startswith(f"{self.name}: complete in {root}")


@pytest.mark.slow
class TestMulti30k(RealCorpus):
    name = "multi30k_en_de"
    sizes = (29_000, 1_014, 1_000)
    skipped: ClassVar[dict[str, int]] = {}


@pytest.mark.slow
class TestWmt14(RealCorpus):
    name = "wmt14_en_de"
    # Of the slice of the training files that has 52,061 pairs.
    sizes = (52_061, 3_000, 3_003)
    skipped: ClassVar[dict[str, int]] = {
        "longer than max_length": 148,
        "target longer than its source allows": 428,
    }
