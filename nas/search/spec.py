"""What is asked for: one frozen request, valid when it exists, the same in YAML, CLI and HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError, WithJsonSchema, model_validator

from nas import catalog
from nas.errors import DuplicateName, SpecError
from nas.registry import nearest
from nas.search.changes import changed
from nas.search.objective import Constraint, Metric, Objective
from nas.search.recipe import SupernetRecipe, TrainingRecipe, Unit, check_unit
from nas.search.resources import Budget, ExecutorSpec
from nas.search.section import (
    ByName,
    Part,
    Positive,
    Section,
    StrategyPart,
    Whole,
    WithOptions,
)
from nas.search.stages import (
    Confirmation,
    Controls,
    Evaluation,
    FidelityCheck,
    Gate,
    Prediction,
)
from nas.search.workload import Workload, check_lengths
from nas.space.blueprint import check as check_buildable
from nas.space.digest import digest
from nas.space.listed import ListedSpace
from nas.space.loader import explain, load_space
from nas.space.reading import path_of, read_yaml
from nas.space.search_space import SearchSpace
from nas.space.task_shape import TaskShape, can_tell


def _in_order(given: Any) -> Any:
    # Pydantic would take a set, whose order is another one in every process.
    if not isinstance(given, list | tuple):
        raise SpecError(f"a list is required, {given!r} given")
    return given


def parse_workload(given: Mapping[str, Any], source: str) -> Workload:
    """A workload from plain values; raises `SpecError` naming the field that is wrong."""
    try:
        return Workload.model_validate(given)
    except ValidationError as error:
        raise explain(error, source, Workload) from error


class SearchSpec(Section):
    """One search request; where things are stored is not in it.

    `space` is a name, a path or a mapping. Raises `SpecError` (through `load_spec`) for anything
    unknown, out of range or impossible, naming file and key path.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
    """The search's name: lower-case letters, digits, `_` and `-`."""
    task: Annotated[Part, WithOptions(catalog.TASKS)]
    """What the network is for."""
    space: Annotated[Any, WithJsonSchema({"type": ["string", "object"]})]
    """What may be built: a space's name, its file's path, or the space itself."""
    objectives: Annotated[
        tuple[str, ...], Field(min_length=2, max_length=4), BeforeValidator(_in_order)
    ] = ("cross_entropy", "flops")
    """Metrics of the task (at least one) and costs that are traded off; left out: what the task
    ranks by, and flops."""
    constraints: Annotated[tuple[str, ...], BeforeValidator(_in_order)] = ()
    """Bounds to keep: `METRIC <= NUMBER` or `METRIC >= NUMBER`."""
    strategy: Annotated[StrategyPart, WithOptions(catalog.STRATEGIES, "ranked")] = StrategyPart()
    """What proposes architectures."""
    batch: Positive = 10
    """Architectures proposed together, from what was scored before."""
    budget: Budget = Budget()
    supernet: SupernetRecipe = SupernetRecipe()
    standalone: TrainingRecipe = TrainingRecipe()
    """Training of networks alone, by `nas confirm`."""
    evaluation: Evaluation = Evaluation()
    controls: Controls = Controls()
    fidelity: FidelityCheck = FidelityCheck()
    gate: Gate = Gate()
    confirmation: Confirmation = Confirmation()
    executor: Annotated[ExecutorSpec, ByName(catalog.EXECUTORS)] = ExecutorSpec()
    latency: Workload = Workload()
    prediction: Prediction = Prediction()
    seed: Annotated[Whole, Field(lt=2**63)] = 0
    """Decides all that is drawn."""

    @model_validator(mode="before")
    @classmethod
    def _rank_by_primary(cls, given: Any) -> Any:
        # What a network is ranked by is the task's affair.
        if isinstance(given, Mapping) and "objectives" not in given:
            task = given.get("task")
            name = task.get("name") if isinstance(task, Mapping) else task
            if name in catalog.TASKS.names():
                return {**given, "objectives": (catalog.TASKS.load(name).primary, "flops")}
        return given

    @model_validator(mode="before")
    @classmethod
    def _resolve_space(cls, given: Any) -> Any:
        # The request carries the space itself, so that a resumed search never meets an edited file.
        if isinstance(given, Mapping) and given.get("space") is not None:
            space = given["space"]
            resolved = space if isinstance(space, SearchSpace) else load_space(space)
            return {**given, "space": resolved.to_json()}
        return given

    @model_validator(mode="after")
    def _check(self) -> SearchSpec:
        catalog.EXECUTORS.check(self.executor.name, "executor.name")
        self.strategy.configured(catalog.STRATEGIES, "strategy")
        check_buildable(self.search_space, self.task_shape)
        known = self.metrics
        for where, names in (
            ("objectives", self.objectives),
            ("constraints", tuple(each.metric for each in self.parsed_constraints)),
        ):
            for name in names:
                if name in catalog.COSTS.names() and name not in known:
                    raise SpecError(
                        f"{where}: {name} is not known of the networks of {self.task.name}, which "
                        f"stand in a table; allowed: {', '.join(known)}"
                    )
                if name not in known:
                    allowed = nearest(name, list(known))
                    raise SpecError(f"{where}: unknown metric {name!r}; {allowed}")
        if len(set(self.objectives)) < len(self.objectives):
            raise SpecError(f"objectives: each once, {list(self.objectives)} given")
        task = catalog.TASKS.load(self.task.name).metrics
        if not {metric.name for metric in task} & set(self.objectives):
            wanted = ", ".join(metric.name for metric in task)
            raise SpecError(f"objectives: costs alone given; at least one of {wanted} is needed")
        self._check_recipes()
        if "latency_ms" in self.measured_costs:
            check_lengths(self.latency, self.task_shape)
        self._check_feasible()
        return self

    def _check_recipes(self) -> None:
        declared = catalog.TASKS.load(self.task.name)
        options = self.task.configured(catalog.TASKS, "task")
        # None but a task of rows has anything against a key of the last ones.
        for where in ("evaluation", "latency", "prediction", "fidelity", "gate", "confirmation"):
            check_unit(getattr(self, where), declared.unit, self.task.name, where)
        for where, recipe in (("supernet", self.supernet), ("standalone", self.standalone)):
            check_unit(recipe, declared.unit, self.task.name, where)
            if recipe.augmentation.flip and not declared.flips_safe(options):
                raise SpecError(
                    f"{where}.augmentation.flip: task {self.task.name} declares flips unsafe "
                    "(a mirrored image may mean another class); leave it out"
                )

    def _check_feasible(self) -> None:
        for constraint in self.parsed_constraints:
            metric = self.metrics[constraint.metric]
            least = "<=" if metric.direction == "minimize" else ">="
            beyond = metric.best is not None and constraint.excess({metric.name: metric.best}) > 0
            if constraint.operator == least and beyond:
                raise SpecError(
                    f"constraints: '{constraint}' given; {metric.name} is {metric.best:g} at best"
                )
            if metric.analytic:
                end = "smallest" if constraint.operator == "<=" else "largest"
                cost = catalog.COSTS.load(constraint.metric)
                best = cost.bound(self.search_space, self.task_shape, end)
                if best is not None and constraint.violation({constraint.metric: best}) > 0:
                    raise SpecError(
                        f"constraints: no architecture of {self.search_space.name} meets "
                        f"'{constraint}'; the {end} possible {constraint.metric} is {best}"
                    )

    @cached_property
    def search_space(self) -> SearchSpace:
        """The space as a value."""
        return load_space(self.space)

    @cached_property
    def task_shape(self) -> TaskShape:
        """Shapes that the task declares under its options."""
        declared = catalog.TASKS.load(self.task.name, "task")
        shape: TaskShape = declared.shape(self.task.configured(catalog.TASKS, "task"))
        return shape

    @property
    def looked_up(self) -> bool:
        """Whether trials are looked up in a table: there is no supernet and nothing is trained."""
        unit: Unit = catalog.TASKS.load(self.task.name, "task").unit
        return unit == "rows"

    @cached_property
    def metrics(self) -> dict[str, Metric]:
        """Every metric by name that the task and the cost models can give."""
        task = catalog.TASKS.load(self.task.name, "task").metrics
        found = {metric.name: metric for metric in task}
        for name in catalog.COSTS.names():
            if not can_tell(self.task_shape, name):
                continue
            metric = catalog.COSTS.load(name).metric
            if metric.name != name or name in found:
                raise DuplicateName(
                    f"cost {name!r} gives the metric {metric.name!r}; a cost has its metric's name,"
                    f" and none of the task's: {', '.join(each.name for each in task)}"
                )
            found[name] = metric
        return found

    @cached_property
    def measured_costs(self) -> tuple[str, ...]:
        """The costs that have to be measured for this request, as it is about them."""
        wanted = {*self.objectives, *(each.metric for each in self.parsed_constraints)}
        costs = (name for name in catalog.COSTS.names() if name in wanted)
        return tuple(name for name in costs if not self.metrics[name].analytic)

    @cached_property
    def parsed_objectives(self) -> tuple[Objective, ...]:
        """Objectives with direction and unit."""
        return tuple(Objective(self.metrics[name]) for name in self.objectives)

    @cached_property
    def primary(self) -> Objective:
        """The task's own metric to rank by, whatever the objectives and their order."""
        return Objective(self.metrics[catalog.TASKS.load(self.task.name).primary])

    @cached_property
    def parsed_constraints(self) -> tuple[Constraint, ...]:
        """Constraints as values."""
        return tuple(
            Constraint.parse(text, f"constraints.{i}") for i, text in enumerate(self.constraints)
        )

    def keeps_constraints(self, metrics: Mapping[str, float]) -> bool:
        """Whether a scored trial of these metrics keeps every constraint."""
        return all(each.violation(metrics) == 0 for each in self.parsed_constraints)

    def to_json(self) -> dict[str, Any]:
        """The request's JSON form; `load_spec` reads it back to an equal request."""
        return self.model_dump(mode="json")

    @cached_property
    def supernet_digest(self) -> str:
        """Digest of what decides the supernet's weights: space, task, recipe and seed."""
        content = self._training(self.supernet)
        content |= {"space": self.search_space.digest}
        if not self.looked_up:
            # A table has the same scores for every seed.
            content |= {"seed": self.seed}
        if self.supernet.stability is not None:
            # These examples say when the training may stop; the name is older than they are.
            content["images"] = self.evaluation.examples
        return digest(content)

    @cached_property
    def standalone_digest(self) -> str:
        """Digest of what decides stand-alone weights, beside architecture and seed."""
        return digest(self._training(self.standalone))

    def _training(self, recipe: TrainingRecipe) -> dict[str, Any]:
        """The task and a recipe for a digest: what differs from defaults, which never change.

        So a field that is added later, at its default, leaves every digest as it was.
        """
        options = self.task.configured(catalog.TASKS, "task")
        chosen = options.model_dump(mode="json", exclude_defaults=True)
        # How often it is saved decides no weight.
        kept = recipe.model_dump(mode="json", exclude={"checkpoint_every"}, exclude_defaults=True)
        return {"task": {"name": self.task.name, **chosen}, "recipe": kept}


def request_schema() -> dict[str, Any]:
    """JSON Schema of a request as it is written: YAML or JSON, parts by name or with options."""
    return SearchSpec.model_json_schema()


def load_spec(
    spec: str | Path | Mapping[str, Any], changes: Mapping[str, Any] | None = None
) -> SearchSpec:
    """Reads a request from a YAML file's path or a mapping, with `changes` by dotted key path.

    Raises `SpecError` with the source and key path of everything that is wrong.
    """
    source = (
        "spec" if isinstance(spec, Mapping) else str(path_of(spec, "spec", "a path or a mapping"))
    )
    given = spec if isinstance(spec, Mapping) else read_yaml(spec)
    if not isinstance(given, Mapping):
        raise SpecError(f"{source}: a mapping with name, task, space, ... is required")
    given = changed(given, {} if changes is None else changes, source)
    try:
        return _with_resolved_task(SearchSpec.model_validate(given))
    except ValidationError as error:
        raise explain(error, source, SearchSpec) from error


def _with_resolved_task(spec: SearchSpec) -> SearchSpec:
    # As with the space: a resumed search never meets a folder, or a table, that has changed.
    options = spec.task.configured(catalog.TASKS, "task")
    declared = catalog.TASKS.load(spec.task.name)
    if spec.looked_up and not isinstance(spec.search_space, ListedSpace):
        held = declared.held_in(spec.search_space, options)
        return SearchSpec.model_validate({**spec.to_json(), "space": held})
    resolved = declared.resolved(options)
    before, after = (each.model_dump(mode="json") for each in (options, resolved))
    if before == after:
        return spec
    found = {name: value for name, value in after.items() if value != before[name]}
    part = Part(name=spec.task.name, options={**spec.task.options, **found})
    return spec.model_copy(update={"task": part})
