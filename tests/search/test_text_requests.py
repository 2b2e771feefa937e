"""Does a request of one kind of task refuse what belongs to the other, and say what is allowed?"""

from typing import Any

import pytest

from nas.errors import SpecError
from nas.search.spec import load_spec
from tests.task.small_numbers import SPACE, request

TEXT = {"name": "x", "task": "numbers_en_de", "space": "numbers_tiny"}
IMAGES = {"name": "x", "task": "digits", "space": "digits_tiny"}
RECIPES = "numbers_en_de is a task of sentences and takes batch_tokens, dropout"
WRONG: dict[str, tuple[dict[str, Any], list[str]]] = {
    "image space": (
        {**TEXT, "space": "digits_tiny"},
        ["kind: encoder given", "sentence pairs", "encoder_decoder is allowed"],
    ),
    "text space": (
        {**IMAGES, "space": "numbers_tiny"},
        ["kind: encoder_decoder given", "images", "encoder is allowed"],
    ),
    "images a step": ({**TEXT, "supernet": {"batch_size": 3}}, ["supernet.batch_size", RECIPES]),
    "images alone": ({**TEXT, "standalone": {"batch_size": 3}}, ["standalone.batch_size", RECIPES]),
    "augmentation": (
        {**TEXT, "supernet": {"augmentation": {"flip": True}}},
        ["supernet.augmentation", RECIPES],
    ),
    "images a pass": (
        {**TEXT, "evaluation": {"batch_size": 3}},
        ["evaluation.batch_size", "takes batch_tokens, beam, length_penalty;"],
    ),
    "tokens a step": (
        {**IMAGES, "supernet": {"batch_tokens": 3}},
        ["supernet.batch_tokens", "digits is a task of images and takes batch_size, augmentation;"],
    ),
    "dropout": ({**IMAGES, "standalone": {"dropout": 0.1}}, ["standalone.dropout", "of sentences"]),
    "beam": ({**IMAGES, "evaluation": {"beam": 2}}, ["evaluation.beam", "takes batch_size;"]),
    "beam, timed": ({**IMAGES, "latency": {"beam": 2}}, ["latency.beam", "takes none such;"]),
    "length, timed": ({**IMAGES, "latency": {"source_length": 9}}, ["latency.source_length"]),
    "patches": ({**TEXT, "space": {**SPACE, "patch_size": [2]}}, ["space: patch_size", "encoder"]),
    "metric": (
        {**TEXT, "objectives": ["cross_entropy", "flops"]},
        ["'cross_entropy'", "loss, params, perplexity"],
    ),
    "a test's metric": ({**TEXT, "objectives": ["exact_match", "flops"]}, ["'exact_match'"]),
    "too long to be timed": (
        {
            **TEXT,
            "task": {"name": "numbers_en_de", "length_ratio": 1.0, "length_margin": 3},
            "objectives": ["loss", "latency_ms"],
            "latency": {"source_length": 7, "target_length": 11},
        },
        ["latency.target_length: 11 given", "source of 7 tokens", "at most 10"],
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_request(kind: str) -> None:
    given, words = WRONG[kind]
    with pytest.raises(SpecError) as caught:
        load_spec(given)
    for word in words:
        assert word in str(caught.value)


def test_objectives_are_the_task_s_own_unless_given() -> None:
    assert load_spec(TEXT).objectives == ("loss", "flops")
    assert load_spec(IMAGES).objectives == ("cross_entropy", "flops")
    spec = request()
    assert spec.primary.metric.name == "loss"
    assert load_spec(spec.to_json()) == spec


def test_a_length_that_nobody_measures_is_no_matter() -> None:
    lengths = {"source_length": 7, "target_length": 60}
    assert load_spec({**TEXT, "latency": lengths}).latency.target_length == 60
    longest = {"source_length": 7, "target_length": 21}
    found = load_spec({**TEXT, "latency": longest, "objectives": ["loss", "latency_ms"]})
    assert found.measured_costs == ("latency_ms",)
