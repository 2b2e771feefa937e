"""A request is valid when it exists, and says in one message why it does not."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from nas.cost.analytic import FLOPS, PARAMS
from nas.errors import SpecError
from nas.search.changes import parse_change
from nas.search.objective import Constraint
from nas.search.recipe import SupernetRecipe, TrainingRecipe
from nas.search.spec import SearchSpec, load_spec, parse_workload
from nas.search.stages import Evaluation
from nas.search.workload import Workload
from nas.space.loader import load_space
from nas.space.task_shape import ImageShape
from tests.space.spaces import FOLDER, GIVEN, LAYERS
from tests.task.digit_sentences import plug

BASE: dict[str, Any] = {"name": "demo", "task": "digits", "space": "digits_tiny"}
SIXTEEN = ImageShape(side=16, channels=1, classes=10)
REQUESTS = sorted((FOLDER / "searches").glob("*.yaml"))


def spec_of(**changes: Any) -> SearchSpec:
    return load_spec(BASE | changes)


class TestForm:
    @pytest.mark.usefixtures("bert_table")
    @pytest.mark.parametrize("path", REQUESTS, ids=lambda path: path.stem)
    def test_every_shipped_request_loads_and_comes_back(self, path: Path) -> None:
        spec = load_spec(path)
        again = load_spec(json.loads(json.dumps(spec.to_json())))
        assert again == spec
        assert again.supernet_digest == spec.supernet_digest
        assert SearchSpec.model_validate(spec.to_json()) == spec

    def test_a_short_request_is_filled_in(self) -> None:
        spec = spec_of()
        assert spec.search_space == load_space("digits_tiny")
        assert spec.task_shape == ImageShape(side=8, channels=1, classes=10)
        assert [each.metric.name for each in spec.parsed_objectives] == ["cross_entropy", "flops"]
        assert (spec.strategy.name, spec.executor.name) == ("ranked", "ray")
        assert spec.latency == Workload()

    def test_it_carries_the_space_itself(self, tmp_path: Path) -> None:
        path = tmp_path / "own.yaml"
        path.write_text(yaml.safe_dump(GIVEN))
        spec = spec_of(space=str(path))
        path.write_text("edited")
        assert load_spec(spec.to_json()).search_space == load_space(GIVEN)
        assert spec_of(space=load_space(GIVEN)) == spec

    def test_names_alone_stand_for_parts(self) -> None:
        assert spec_of(task={"name": "digits"}) == spec_of()
        assert spec_of(strategy="random", executor="local") == spec_of(
            strategy={"name": "random"}, executor={"name": "local"}
        )
        assert spec_of(task={"name": "digits", "side": 16}).task_shape == SIXTEEN
        assert spec_of(task={"name": "digits", "options": {"side": 16}}).task_shape == SIXTEEN

    def test_it_is_frozen(self) -> None:
        with pytest.raises(ValidationError, match="frozen"):
            spec_of().batch = 3  # type: ignore[misc]

    def test_constraints_are_values(self) -> None:
        spec = spec_of(constraints=["flops <= 1e6", "accuracy>=0.5"])
        assert spec.parsed_constraints == (
            Constraint("flops", "<=", 1e6),
            Constraint("accuracy", ">=", 0.5),
        )

    def test_the_first_budget_counts(self) -> None:
        assert spec_of().budget.hours(2) is None
        budget = spec_of(budget={"wall_hours": 3, "device_hours": 4}).budget
        assert [budget.hours(devices) for devices in (1, 2, 8)] == [3, 2, 0.5]

    def test_the_trainer_has_the_cores_of_all_workers(self) -> None:
        executor = {"name": "ray", "workers": 3, "cores": 2}
        assert spec_of(executor=executor).executor.cores_for_training == 6
        assert spec_of(executor=executor | {"training_cores": 1}).executor.cores_for_training == 1


WHOLE = ["batch", "budget.trials", "supernet.steps", "standalone.batch_size", "executor.workers"]
BAD: list[tuple[dict[str, Any], str]] = [
    ({"name": "A b"}, r"name: String should match pattern .* 'A b' given"),
    ({"task": "digts"}, r"task: unknown task 'digts'; did you mean 'digits'\? allowed: cifar10"),
    ({"task": 3}, r"task: a mapping is required, 3 given"),
    ({"task": {"side": 8}}, r"task\.name: is required"),
    ({"task": {"name": "digits", "sied": 8}}, r"task\.sied: unknown key; did you mean 'side'"),
    ({"task": {"name": "digits", "side": 1}}, r"task\.side: .* equal to 4, 1 given"),
    ({"objectives": ["flops", "params"]}, r"objectives: costs alone .* cross_entropy, accuracy is"),
    ({"evaluation": {"examples": 1}}, r"evaluation\.examples: .* equal to 2, 1 given"),
    ({"task": "image_folder"}, r"task\.path: is required"),
    ({"space": "digits"}, r"space: unknown name 'digits'; did you mean 'digits_tiny'"),
    ({"space": 3}, r"space: 3 given; a name, a path or a mapping is allowed"),
    ({"space": GIVEN | {"width": []}}, r"space: width: the list of choices is empty"),
    ({"space": GIVEN | {"depht": 3}}, r"space: depht: unknown key; did you mean 'depth'"),
    (
        {"space": GIVEN | {"layers": LAYERS | {"attention": "liner"}}},
        r"space: layers\.attention: choice 1: unknown attention 'liner'; did you mean 'linear'",
    ),
    (
        {"space": "mixformer_cifar10"},
        r"space\.patch_size: patch_size 16 does not divide .* 8 pixels; allowed: 1, 2, 4, 8",
    ),
    ({"objectives": ["flops"]}, r"objectives: .* at least 2 items .* \['flops'\] given"),
    ({"objectives": "flops"}, r"objectives: a list is required, 'flops' given"),
    ({"objectives": ["flops", "flops"]}, r"objectives: each once"),
    (
        {"objectives": ["flops", "acuracy"]},
        r"objectives: unknown metric 'acuracy'; did you mean 'accuracy'",
    ),
    (
        {"constraints": ["accuracy >= 1.01"]},
        r"constraints: 'accuracy >= 1\.01' given; accuracy is 1 at best",
    ),
    ({"constraints": ["flop <= 3"]}, r"constraints: unknown metric 'flop'; did you mean 'flops'"),
    (
        {"constraints": ["params <= 1e9", "flops < 3"]},
        r"constraints\.1: 'flops < 3' given",
    ),
    ({"strategy": "evolutoin"}, r"strategy: unknown strategy .*did you mean 'evolution'"),
    ({"strategy": {"initail": 30}}, r"strategy\.initail: unknown key; .*'initial'"),
    ({"strategy": {"initial": -3}}, r"strategy\.initial: .* equal to 8, -3 given"),
    ({"executor": "loca"}, r"executor\.name: unknown executor 'loca'; did you mean 'local'"),
    ({"executor": {"gpus": -1}}, r"executor\.gpus: .* -1 given"),
    ({"budget": {"wall_hour": 1}}, r"budget\.wall_hour: unknown key; did you mean 'wall_hours'"),
    ({"budget": {"wall_hours": float("nan")}}, r"budget\.wall_hours: .* finite number, nan given"),
    ({"budget": {"device_hours": 0}}, r"budget\.device_hours: .* greater than 0, 0 given"),
    ({"supernet": {"sampling": "fare"}}, r"supernet\.sampling: .*'fair' or 'sandwich', 'fare'"),
    ({"supernet": {"learning_rate": "fast"}}, r"supernet\.learning_rate: .* 'fast' given"),
    ({"supernet": {"learning_rate": float("inf")}}, r"supernet\.learning_rate: .* inf given"),
    ({"supernet": {"stability": {"threshold": 2}}}, r"supernet\.stability\.threshold: .* 2 given"),
    ({"standalone": {"label_smoothing": 1}}, r"standalone\.label_smoothing: .* less than 1"),
    ({"standalone": {"weight_decay": -0.1}}, r"standalone\.weight_decay: .* -0\.1 given"),
    ({"standalone": {"sampling": "fair"}}, r"standalone\.sampling: unknown key"),
    ({"evaluation": {"examples": 0}}, r"evaluation\.examples: .* 0 given"),
    ({"confirmation": {"seeds": 1}}, r"confirmation\.seeds: .* equal to 2, 1 given"),
    ({"latency": {"device": "gpu"}}, r"latency\.device: .* 'gpu' given"),
    ({"latency": {"dtype": "int8"}}, r"latency\.dtype: .* 'int8' given"),
    ({"seed": -1}, r"seed: .* -1 given"),
    ({"seed": 2**63}, r"seed: .* less than"),
    ({"bach": 1}, r"bach: unknown key; did you mean 'batch'\? allowed: batch, budget"),
]


class TestBadInput:
    @pytest.mark.parametrize(("changes", "message"), BAD, ids=lambda each: str(each)[:40])
    def test_the_message_says_what_and_where(
        self, tmp_path: Path, changes: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(SpecError, match=f"^spec: {message}"):
            spec_of(**changes)
        path = tmp_path / "request.yaml"
        path.write_text(yaml.safe_dump(BASE | changes))
        with pytest.raises(SpecError, match=rf"request\.yaml: {message}") as raised:
            load_spec(path)
        assert "\n" not in str(raised.value)

    @pytest.mark.parametrize("path", WHOLE)
    @pytest.mark.parametrize("value", [0, -1, 1.5, 2.0, True, "a", "3", None, float("nan"), [1]])
    def test_counts_are_positive_integers(self, path: str, value: Any) -> None:
        with pytest.raises(SpecError, match=f"^spec: {path}: .* given$"):
            load_spec(BASE, {path: value})

    @pytest.mark.parametrize("where", ["supernet", "standalone"])
    def test_flips_are_refused_where_they_are_unsafe(self, where: str) -> None:
        flip = {where: {"augmentation": {"flip": True}}}
        with pytest.raises(SpecError, match=rf"{where}\.augmentation\.flip: task digits declares"):
            spec_of(**flip)
        spec = load_spec(BASE | flip | {"task": "cifar10", "space": "cifar10_small"})
        assert spec.task.name == "cifar10"

    @pytest.mark.parametrize("name", ["name", "task", "space"])
    def test_what_is_missing(self, name: str) -> None:
        with pytest.raises(SpecError, match=f"^spec: {name}: is required"):
            load_spec({key: value for key, value in BASE.items() if key != name})

    @pytest.mark.parametrize("text", ["", "[]", "3"])
    def test_a_file_that_holds_no_mapping(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "request.yaml"
        path.write_text(text)
        with pytest.raises(SpecError, match=r"request\.yaml: a mapping with name, task, space"):
            load_spec(path)

    def test_aliases_are_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "request.yaml"
        path.write_text("name: &a demo\ntask: *a\n")
        with pytest.raises(SpecError, match=r"request\.yaml: .*aliases are not allowed \(line 2\)"):
            load_spec(path)


class TestFeasibility:
    SPACE = load_space("digits_tiny")
    SHAPE = ImageShape(8, 1, 10)

    def test_the_smallest_possible_value_is_said_exactly(self) -> None:
        least = FLOPS.bound(self.SPACE, self.SHAPE, "smallest")
        with pytest.raises(SpecError, match=f"'flops <= 10'; the smallest possible .* is {least}$"):
            spec_of(constraints=["flops <= 10"])
        assert spec_of(constraints=[f"flops <= {least}"]).parsed_constraints[0].bound == least
        with pytest.raises(SpecError, match=f"'flops <= {least - 1}'"):
            spec_of(constraints=[f"flops <= {least - 1}"])

    def test_the_largest_possible_value_is_said_exactly(self) -> None:
        most = PARAMS.bound(self.SPACE, self.SHAPE, "largest")
        with pytest.raises(SpecError, match=f"'params >= {most + 1}'; the largest .* is {most}$"):
            spec_of(constraints=[f"params >= {most + 1}"])
        assert spec_of(constraints=[f"params >= {most}"]).parsed_constraints[0].bound == most

    def test_what_is_measured_is_not_judged(self) -> None:
        spec = spec_of(constraints=["accuracy >= 1", "latency_ms <= 0"])
        assert len(spec.parsed_constraints) == 2


class TestChanges:
    @pytest.mark.parametrize(
        ("text", "change"),
        [
            ("budget.trials=50", ("budget.trials", 50)),
            (" seed = 3", ("seed", 3)),
            ("supernet.learning_rate=1e-3", ("supernet.learning_rate", 1e-3)),
            ("objectives=[accuracy, params]", ("objectives", ["accuracy", "params"])),
            ("constraints=['flops <= 2e7']", ("constraints", ["flops <= 2e7"])),
            ("budget.wall_hours=", ("budget.wall_hours", None)),
        ],
    )
    def test_they_are_read_as_yaml(self, text: str, change: tuple[str, Any]) -> None:
        assert parse_change(text) == change

    @pytest.mark.parametrize("text", ["budget.trials", "=3", ""])
    def test_other_forms_are_refused(self, text: str) -> None:
        with pytest.raises(SpecError, match=r"--set .*: KEY\.PATH=VALUE is expected"):
            parse_change(text)

    def test_bad_yaml_is_named(self) -> None:
        with pytest.raises(SpecError, match=r"^--set a: not usable YAML"):
            parse_change("a=[1")

    def test_they_reach_every_level_and_make_new_ones(self) -> None:
        given = BASE | {"budget": {"trials": 3}}
        changes = {
            "budget.trials": 50,
            "budget.wall_hours": 1.5,
            "supernet.augmentation.crop_padding": 2,
            "supernet.stability.patience": 4,
            "task.validation": 300,
            "strategy.initial": 12,
            "executor.workers": 3,
            "space": "cifar10_small",
        }
        spec = load_spec(given, changes)
        assert (spec.budget.trials, spec.budget.wall_hours) == (50, 1.5)
        assert spec.supernet.augmentation.crop_padding == 2
        assert spec.supernet.stability is not None
        assert spec.supernet.stability.patience == 4
        assert spec.task.options == {"validation": 300}
        assert (spec.strategy.name, spec.strategy.options) == ("ranked", {"initial": 12})
        assert (spec.executor.name, spec.executor.workers) == ("ray", 3)
        assert spec.search_space.name == "cifar10_small"
        # The caller's mapping is as it was.
        assert given == BASE | {"budget": {"trials": 3}}

    def test_a_named_part_keeps_its_name(self) -> None:
        changes = {"task.side": 16, "strategy.tournament": 3, "executor.cores": 2}
        spec = load_spec(BASE | {"strategy": "evolution", "executor": "local"}, changes)
        assert spec.task_shape == SIXTEEN
        assert (spec.executor.name, spec.executor.cores) == ("local", 2)

    def test_a_value_has_no_levels(self) -> None:
        with pytest.raises(SpecError, match=r"^spec: --set batch\.x: batch is 3, not a mapping"):
            load_spec(BASE | {"batch": 3}, {"batch.x": 1})


IMAGES = "{key}: for tasks of images; digit_sentences is a task of sentences and takes {taken}; "
SENTENCES = "{key}: for tasks of sentences; digits is a task of images and takes {taken}; "
RECIPE, EVALUATION = "batch_tokens, dropout", "batch_tokens, beam, length_penalty"
FOREIGN: list[tuple[str, str, Any, str, str]] = [
    ("digits", "supernet.batch_tokens", 4000, SENTENCES, "batch_size, augmentation"),
    ("digits", "standalone.batch_tokens", 4000, SENTENCES, "batch_size, augmentation"),
    ("digits", "evaluation.batch_tokens", 4000, SENTENCES, "batch_size"),
    ("digits", "supernet.dropout", 0.1, SENTENCES, "batch_size, augmentation"),
    ("digits", "standalone.dropout", 0.1, SENTENCES, "batch_size, augmentation"),
    ("digits", "evaluation.beam", 8, SENTENCES, "batch_size"),
    ("digits", "evaluation.length_penalty", 1.0, SENTENCES, "batch_size"),
    ("digit_sentences", "supernet.batch_size", 32, IMAGES, RECIPE),
    ("digit_sentences", "standalone.batch_size", 32, IMAGES, RECIPE),
    ("digit_sentences", "evaluation.batch_size", 32, IMAGES, EVALUATION),
    ("digit_sentences", "supernet.augmentation", {"flip": True}, IMAGES, RECIPE),
    ("digit_sentences", "standalone.augmentation", {"crop_padding": 1}, IMAGES, RECIPE),
]


class TestUnits:
    """A task takes the keys that are for its examples, and the others at their defaults alone."""

    @pytest.fixture(autouse=True)
    def _plugged(self, monkeypatch: pytest.MonkeyPatch) -> None:
        plug(monkeypatch)

    @pytest.mark.parametrize(("task", "key", "value", "message", "taken"), FOREIGN, ids=str)
    def test_keys_of_another_unit_are_refused(
        self, task: str, key: str, value: Any, message: str, taken: str
    ) -> None:
        said = re.escape(message.format(key=key, taken=taken))
        with pytest.raises(SpecError, match=rf"^spec: {said}leave it out$"):
            load_spec(BASE, {"task": task, key: value})
        other = "digits" if task == "digit_sentences" else "digit_sentences"
        if key != "supernet.augmentation":
            load_spec(BASE, {"task": other, key: value})

    @pytest.mark.parametrize("key", ["beam", "source_length", "target_length"])
    def test_images_are_not_timed_as_sentences(self, key: str) -> None:
        changes = {f"latency.{key}": 8}
        load_spec(BASE, {"task": "digit_sentences", **changes})
        said = rf"^spec: latency\.{key}: for tasks of sentences; digits is a task of images"
        with pytest.raises(SpecError, match=said):
            load_spec(BASE, {"task": "digits", **changes})

    @pytest.mark.parametrize("task", ["digits", "digit_sentences"])
    def test_at_their_defaults_they_are_taken(self, task: str) -> None:
        plain = load_spec(BASE, {"task": task})
        stated = {
            "supernet": SupernetRecipe().model_dump(mode="json"),
            "standalone": TrainingRecipe().model_dump(mode="json"),
            "evaluation": Evaluation().model_dump(mode="json"),
        }
        assert load_spec(BASE | stated, {"task": task}) == plain
        assert load_spec(plain.to_json()) == plain

    def test_tokens_decide_the_weights_of_a_task_of_sentences(self) -> None:
        specs = [
            load_spec(BASE, {"task": "digit_sentences", f"{part}.batch_tokens": 500})
            for part in ("supernet", "standalone", "evaluation")
        ]
        assert len({spec.supernet_digest for spec in specs}) == 2
        assert len({spec.standalone_digest for spec in specs}) == 2
        assert specs[0].supernet_digest != specs[2].supernet_digest
        assert specs[1].standalone_digest != specs[2].standalone_digest


class TestWorkload:
    def test_it_is_read_from_plain_values(self) -> None:
        given = {"device": "cuda:1", "dtype": "bfloat16", "batch": 8}
        workload = parse_workload(given, "here")
        assert workload == Workload(device="cuda:1", dtype="bfloat16", batch=8)
        assert spec_of(latency=given).latency == workload
        assert parse_workload(workload.to_json(), "here") == workload

    def test_what_is_wrong_is_named(self) -> None:
        with pytest.raises(SpecError, match=r"^here: batch: .* 0 given; thread: unknown key;"):
            parse_workload({"batch": 0, "thread": 1}, "here")
