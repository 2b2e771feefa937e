"""Are the numbers right in both languages, and is no sentence in two splits?"""

from pathlib import Path

import pytest

from nas.task.numbers import NUMBERS_EN_DE, NumbersOptions, sentences
from nas.task.text_data import TextData
from tests.task.text_conformance import TextTaskConformance

SMALL = NumbersOptions(pairs=400, validation=60, test=50)


class TestNumbers(TextTaskConformance):
    name = "numbers_en_de"

    @pytest.fixture(scope="class")
    @classmethod
    def options(cls) -> NumbersOptions:
        return SMALL

    @pytest.fixture(scope="class")
    @classmethod
    def root(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        return tmp_path_factory.mktemp("empty")

    def test_no_sentence_is_in_two_splits(self, data: TextData) -> None:
        parts = (data.train, data.validation(), data.test())
        texts = [text for part in parts for text in data.sources(part)]
        assert len(texts) == len(set(texts)) == 400 + 60 + 50
        assert data.skipped == {}

    def test_another_seed_moves_validation_and_leaves_the_tests(
        self, root: Path, data: TextData
    ) -> None:
        other = NUMBERS_EN_DE.load(SMALL.model_copy(update={"seed": 1}), root)
        assert other.digest != data.digest
        assert other.sources(other.validation()) != data.sources(data.validation())
        assert other.sources(other.test()) == data.sources(data.test())
        assert not set(other.sources(other.train)) & set(data.sources(data.test()))

    def test_a_right_sentence_is_right_to_the_letter(self) -> None:
        values, _ = NUMBERS_EN_DE.judged(["vier", "fuenf", "sechs"], ["vier", "fünf", "sechs"])
        assert values["exact_match"] == pytest.approx(2 / 3)
        assert 0 < values["chrf"] < 100

    def test_nothing_needs_preparation(self, root: Path) -> None:
        assert "nothing to prepare" in NUMBERS_EN_DE.prepare(SMALL, root)


def test_numbers_ordinals_and_dates_are_written_out() -> None:
    pairs = dict(sentences(1_500, 10, 10, 0)["train"])
    assert pairs["seven"] == "sieben"
    assert pairs["the third"] == "der dritte"
    dates = {english: german for english, german in pairs.items() if " of " in english}
    assert any(german.startswith("der dritte März ") for german in dates.values())
    assert all(german.count(" ") == 3 for german in dates.values())
    ordinals = sum(each.startswith("the ") for each in pairs) - len(dates)
    assert min(len(dates), ordinals, len(pairs) - len(dates) - ordinals) > 200
