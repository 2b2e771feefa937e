"""Every named part is there under its name, and names never collide."""

import importlib.metadata
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from typing import Any

import pytest
from pydantic import BaseModel

from nas import catalog
from nas.errors import DuplicateName, EtnasError, SpecError, UnknownName
from nas.registry import Registry, nearest
from nas.search.objective import Metric

REGISTRIES = {each.point: each for each in vars(catalog).values() if isinstance(each, Registry)}
PARTS = [(point, name) for point in REGISTRIES for name in REGISTRIES[point].names()]
NAMED = [each for each in PARTS if each[0] in {"attention", "ffn", "norm", "task"}]
OPTIONED = [each for each in PARTS if each[0] in {"task", "strategy"}]
Install = Callable[..., Registry]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Makes a registry of colours that meets these entry points of other distributions."""

    def make(**targets: str) -> Registry:
        def entry_points(*, group: str) -> list[EntryPoint]:
            found = {"etnas.colour": targets}.get(group, {})
            return [EntryPoint(name, value, group) for name, value in found.items()]

        monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
        return Registry("colour", {"red": "math:pi", "green": "math:e"})

    return make


class TestRegistry:
    def test_entries_are_loaded_by_name(self, install: Install) -> None:
        import math

        registry = install(blue="math:tau")
        assert registry.names() == ("blue", "green", "red")
        assert registry.load("blue") == math.tau
        assert registry.check("red") == "red"

    def test_a_plug_in_may_not_take_our_name(self, install: Install) -> None:
        with pytest.raises(DuplicateName, match="colour 'red' is declared twice: math:pi and x:y"):
            install(red="x:y").names()

    def test_two_plug_ins_may_not_share_a_name(self, monkeypatch: pytest.MonkeyPatch) -> None:
        both = [EntryPoint("blue", target, "etnas.colour") for target in ("a:b", "c:d")]
        monkeypatch.setattr(importlib.metadata, "entry_points", lambda **_: both)
        with pytest.raises(DuplicateName, match="colour 'blue' is declared twice: a:b and c:d"):
            Registry("colour", {}).names()

    @pytest.mark.parametrize("name", ["gren", 3, None, ["red"], ""])
    def test_an_unknown_name_lists_its_neighbours(self, install: Install, name: Any) -> None:
        for refuse in (install().check, install().load):
            with pytest.raises(UnknownName) as raised:
                refuse(name, "here")
            assert str(raised.value).startswith(f"here: unknown colour {name!r}; ")
            assert str(raised.value).endswith("allowed: green, red")
            assert isinstance(raised.value, KeyError | ValueError)
        with pytest.raises(UnknownName, match=r"^unknown colour 'gren'; did you mean 'green'"):
            install().check("gren")

    def test_neighbours(self) -> None:
        assert nearest("x", []) == "allowed: none"
        assert nearest("heds", ["heads", "width"]) == "did you mean 'heads'? allowed: heads, width"

    def test_listing_names_imports_no_part(self) -> None:
        program = (
            "import sys; from nas import catalog\n"
            "[x.names() for x in vars(catalog).values() if hasattr(x, 'point')]\n"
            "print(sorted(m for m in sys.modules if m.startswith('nas.')))\n"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
        assert done.stdout.strip() == "['nas.catalog', 'nas.errors', 'nas.registry']", done.stderr


class TestCatalog:
    def test_the_points_are_known(self) -> None:
        points = {"attention", "ffn", "norm", "task", "cost", "strategy", "executor"}
        assert set(REGISTRIES) == points

    @pytest.mark.parametrize(("point", "name"), PARTS)
    def test_every_entry_can_be_loaded(self, point: str, name: str) -> None:
        assert REGISTRIES[point].load(name) is not None

    @pytest.mark.parametrize(("point", "name"), NAMED)
    def test_declarations_carry_their_name(self, point: str, name: str) -> None:
        assert REGISTRIES[point].load(name).name == name

    @pytest.mark.parametrize("name", catalog.COSTS.names())
    def test_costs_carry_a_metric_of_their_name(self, name: str) -> None:
        metric = catalog.COSTS.load(name).metric
        assert isinstance(metric, Metric)
        assert (metric.name, metric.direction) == (name, "minimize")
        assert metric.unit

    @pytest.mark.parametrize(("point", "name"), OPTIONED)
    def test_parts_of_a_request_have_options(self, point: str, name: str) -> None:
        model = REGISTRIES[point].load(name).options_model
        assert issubclass(model, BaseModel)
        assert model.model_config["extra"] == "forbid"
        assert model.model_config["frozen"] is True


class TestErrors:
    @pytest.mark.parametrize("error", [SpecError, UnknownName, DuplicateName])
    def test_they_are_ours_and_builtin(self, error: type[EtnasError]) -> None:
        assert issubclass(error, EtnasError)
        assert issubclass(error, ValueError)
        assert str(error("what happened")) == "what happened"
        assert str(error()) == ""

    def test_every_error_is_ours_and_a_builtin(self) -> None:
        from nas import errors

        for error in vars(errors).values():
            ours = isinstance(error, type) and error.__module__ == errors.__name__
            if ours and error is not EtnasError:
                assert issubclass(error, EtnasError)
                assert any(base.__module__ == "builtins" for base in error.__mro__[1:-3])
