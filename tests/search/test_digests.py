"""Weights are known by what decides them; defaults are left out, so new fields keep old digests."""

from typing import Any

import pytest
from pydantic import BaseModel

from nas.search.recipe import Augmentation, Stability, SupernetRecipe, TrainingRecipe
from nas.search.spec import SearchSpec, load_spec
from nas.space.digest import digest
from nas.space.loader import load_space
from nas.task.image_classification import (
    Cifar10Options,
    Digits,
    DigitsOptions,
    ImageFolderOptions,
)

BASE: dict[str, Any] = {"name": "demo", "task": "digits", "space": "digits_tiny"}


def spec_of() -> SearchSpec:
    return load_spec(BASE)


class TestSupernetDigest:
    def test_it_is_pinned(self) -> None:
        assert spec_of().supernet_digest == "a58956ef74cf50fe"

    def test_it_is_of_what_differs_from_the_defaults(self) -> None:
        changes = {"supernet.steps": 7, "supernet.augmentation.flip": False, "task.side": 16}
        spec = load_spec(BASE, changes | {"supernet.stability": {}, "seed": 3})
        told = {"name": "digits", "side": 16}, {"steps": 7, "stability": {}}
        content = {"space": spec.search_space.digest, "task": told[0], "recipe": told[1]}
        assert spec.supernet_digest == digest({**content, "seed": 3, "images": None})

    @pytest.mark.parametrize(
        "changes",
        [
            {"space": "cifar10_small"},
            {"task.side": 16},
            {"task.validation": 300},
            {"supernet.steps": 7},
            {"supernet.sharing": "shared_vo"},
            {"supernet.augmentation.crop_padding": 2},
            {"supernet.stability.every": 7},
            {"seed": 1},
        ],
    )
    def test_what_decides_the_weights_changes_it(self, changes: dict[str, Any]) -> None:
        assert load_spec(BASE, changes).supernet_digest != spec_of().supernet_digest

    @pytest.mark.parametrize(
        "changes",
        [
            {"name": "other"},
            {"objectives": ["accuracy", "params"]},
            {"constraints": ["flops <= 1e6"]},
            {"strategy": "random"},
            {"batch": 3},
            {"budget.trials": 3},
            {"standalone.steps": 3},
            {"supernet.checkpoint_every": 3},
            {"evaluation.examples": 100},
            {"controls.random": 3},
            {"executor": "local"},
            {"latency.batch": 3},
            {"task.side": 8},
            {"task.validation": 360},
            {"supernet.label_smoothing": 0.1},
            {"supernet.augmentation.flip": False},
            {"supernet.stability": None},
            {"space": load_space("digits_tiny").to_json() | {"name": "renamed"}},
        ],
    )
    def test_nothing_else_changes_it(self, changes: dict[str, Any]) -> None:
        assert load_spec(BASE, changes).supernet_digest == spec_of().supernet_digest

    def test_the_examples_that_stop_the_training_count(self) -> None:
        stopping = BASE | {"supernet": {"stability": {}}}
        digests = {
            load_spec(stopping, {"evaluation.examples": examples}).supernet_digest
            for examples in (None, 100, 200)
        }
        assert len(digests) == 3

    def test_saying_all_defaults_changes_it_as_little_as_saying_none(self) -> None:
        stated = {
            "supernet": SupernetRecipe().model_dump(mode="json"),
            "task": {"name": "digits", **DigitsOptions().model_dump(mode="json")},
        }
        assert load_spec(BASE | stated).supernet_digest == spec_of().supernet_digest

    def test_a_field_that_is_added_at_its_default_leaves_it_as_it_was(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Crop(Augmentation):
            centred: bool = False

        class Recipe(SupernetRecipe):
            averaging: float = 0.0
            augmentation: Crop = Crop()

        class Options(DigitsOptions):
            inverted: bool = False

        changes = {"supernet.steps": 7, "task.side": 16}
        before = load_spec(BASE, changes).supernet_digest
        monkeypatch.setattr(Digits, "options_model", Options)
        grown = {
            name: load_spec(BASE, changes).model_copy(update={"supernet": recipe}).supernet_digest
            for name, recipe in (
                ("defaults", Recipe(steps=7)),
                ("field", Recipe(steps=7, averaging=0.5)),
                ("nested field", Recipe(steps=7, augmentation=Crop(centred=True))),
            )
        }
        assert grown.pop("defaults") == before
        assert load_spec(BASE, changes | {"task.inverted": True}).supernet_digest != before
        assert len({before, *grown.values()}) == 3


class TestStandaloneDigest:
    @pytest.mark.parametrize("changes", [{"task.side": 16}, {"standalone.steps": 7}])
    def test_what_decides_the_weights_changes_it(self, changes: dict[str, Any]) -> None:
        assert load_spec(BASE, changes).standalone_digest != spec_of().standalone_digest

    @pytest.mark.parametrize(
        "changes",
        [
            {"supernet.steps": 7},
            {"seed": 1},
            {"standalone.checkpoint_every": 3},
            {"standalone": TrainingRecipe().model_dump(mode="json")},
            {"task": {"name": "digits", **DigitsOptions().model_dump(mode="json")}},
        ],
    )
    def test_nothing_else_changes_it(self, changes: dict[str, Any]) -> None:
        assert load_spec(BASE, changes).standalone_digest == spec_of().standalone_digest


class TestDefaults:
    """Digests leave defaults out, so a default that changed would pass old weights off as new."""

    @pytest.mark.parametrize(
        ("model", "known"),
        [
            (
                SupernetRecipe(),
                {
                    "steps": 1000,
                    "batch_size": 64,
                    "batch_tokens": 2000,
                    "learning_rate": 1e-3,
                    "warmup_steps": 50,
                    "weight_decay": 0.05,
                    "clip_norm": 1.0,
                    "label_smoothing": 0.1,
                    "precision": "auto",
                    "sampling": "uniform",
                    "sharing": "per_type",
                    "random_subnets": 2,
                    "homogeneous_every": 4,
                    "distill_after": None,
                    "stability": None,
                },
            ),
            (
                Augmentation(),
                {
                    "crop_padding": 0,
                    "flip": False,
                    "randaugment_layers": 0,
                    "randaugment_magnitude": 9,
                },
            ),
            (Stability(), {"every": 500, "subnets": 50, "threshold": 0.9, "patience": 2}),
            (DigitsOptions(), {"side": 8, "validation": 360, "test": 360, "split_seed": 0}),
            (Cifar10Options(), {"side": 32, "validation": 5_000, "split_seed": 0}),
            (
                ImageFolderOptions(path="x"),
                {
                    "side": 32,
                    "validation": 0.1,
                    "test": 0.1,
                    "test_path": None,
                    "split_seed": 0,
                    "flip_safe": False,
                },
            ),
        ],
        ids=lambda given: type(given).__name__,
    )
    def test_they_never_change(self, model: BaseModel, known: dict[str, Any]) -> None:
        assert {name: getattr(model, name) for name in known} == known
