"""Does the README tell the truth? Its commands exist, its request is valid, its ten lines work."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path

import pytest
import torch
from typer.main import get_command

from nas import catalog
from nas.cli.app import app
from nas.model.supernet import Supernet
from nas.search.spec import load_spec
from nas.space.loader import load_space, space_names
from nas.space.reading import parse_yaml
from nas.space.task_shape import TaskShape

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


def test_the_two_commands_are_make_targets() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    commands = re.findall(r"^make (\w+) ", README, flags=re.MULTILINE)
    assert commands == ["demo", "test"]
    for target in commands:
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE)
    demo = re.search(r"nas search (\S+)", makefile)
    assert demo is not None
    assert load_spec(ROOT / demo[1]).task.name == "digits"


def test_every_command_shown_exists() -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    shown = re.findall(r"^nas (\w+)", README, flags=re.MULTILINE)
    assert set(shown) >= {"search", "pareto", "confirm", "compare", "cost", "spaces", "doctor"}
    assert set(shown) <= set(commands)


def test_the_request_is_valid(tmp_path: Path) -> None:
    for name in ("oak", "elm"):
        (tmp_path / name).mkdir()
    (request,) = blocks("yaml")
    given = parse_yaml(request, "README.md")
    given["task"]["path"] = str(tmp_path)
    spec = load_spec(given)
    assert spec.task_shape.classes == 2
    assert spec.search_space.name == "cifar10_small"


def test_the_sizes_and_spaces_are_as_told() -> None:
    assert f"{load_space('digits_tiny').size:,} architectures" in README
    told = {"digits_tiny", "cifar10_small", "cifar10", "mixformer_cifar10", "autoformer_tiny"}
    assert told <= set(space_names())


def test_pictures_and_links_are_there_and_small() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        path = ROOT / target
        assert path.is_file(), target
        if path.suffix == ".png":
            assert path.stat().st_size < 200_000


def test_an_attention_type_in_ten_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    source = next(block for block in blocks("python") if "SharpSoftmax" in block)
    assert len([line for line in source.splitlines() if line.strip()]) <= 10
    module = types.ModuleType("sharp_softmax")
    exec(source, vars(module))
    monkeypatch.setitem(sys.modules, "sharp_softmax", module)
    entries = {**catalog.ATTENTIONS.entries, "sharp_softmax": "sharp_softmax:SHARP_SOFTMAX"}
    monkeypatch.setitem(vars(catalog.ATTENTIONS), "entries", entries)
    given = load_space("digits_tiny").to_json()
    given["layers"]["attention"] = ["softmax", "sharp_softmax"]
    space = load_space(given)
    supernet = Supernet(space, TaskShape(8, 1, 10)).eval()
    plain, sharp = (space.extreme("largest", choice) for choice in space.all_attentions)
    images = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        scores = supernet(images, sharp)
        torch.testing.assert_close(supernet.extract(sharp)(images), scores)
        # Per-type weights: only the same weights show that the function itself is another.
        shared = Supernet(space, TaskShape(8, 1, 10), "shared_qkvo").eval()
        assert not torch.allclose(shared(images, sharp), shared(images, plain))


@pytest.mark.parametrize(
    "path", sorted((ROOT / "search_spaces" / "searches").glob("*.yaml")), ids=lambda p: p.stem
)
def test_shipped_requests_are_valid(path: Path) -> None:
    spec = load_spec(path)
    assert load_spec(spec.to_json()) == spec
