"""Does the README tell the truth? Its commands and its code are run, and what it names is there."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import re
import shlex
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import pandas
import pytest
import torch
from PIL import Image

from nas import catalog
from nas.cli.app import run
from nas.cli.progress import Bars
from nas.model.supernet import Supernet
from nas.run.running import Update
from nas.search.spec import load_spec
from nas.space.loader import load_space, space_names
from nas.space.reading import parse_yaml
from nas.space.task_shape import ImageShape
from nas.train.standalone import standalone_file, train_standalone
from tests.cli.terminal import nas, written

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
FOLDERS = ("kernels", "services", "search_spaces", "benchmarks", "docker")
PAGES = sorted(
    page.relative_to(ROOT)
    for page in (
        *ROOT.glob("*.md"),
        *(page for name in FOLDERS for page in (ROOT / name).rglob("*.md")),
    )
)


# Sizes at which nothing is learnt and everything is done.
RECIPE = {"steps": 3, "batch_size": 4, "warmup_steps": 1}
TINY: dict[str, Any] = {
    "batch": 3,
    "budget": {"trials": 6},
    "supernet": RECIPE,
    "standalone": RECIPE,
    "evaluation": {"examples": 4},
    "controls": {"random": 2, "homogeneous": 1},
    "confirmation": {"members": 1, "seeds": 2, "flops_tolerance": 0.3},
    "executor": "local",
}
TRANSLATION: dict[str, Any] = {
    "name": "translation",
    "task": {
        "name": "numbers_en_de", "vocabulary": 260, "pairs": 100, "validation": 10, "test": 10,
    },
    "space": "numbers_tiny",
    "standalone": {"steps": 2, "batch_tokens": 100, "warmup_steps": 1},
}  # fmt: skip


def blocks(language: str, page: str = README) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)
    return [text for name, text in found if name == language]


def forms(line: str) -> Iterator[str]:
    """What a line offers: its alternatives, without any [option] and with each of them."""
    command = re.sub(r"\s+# .*", "", line)
    plain = re.sub(r"\s*\[.*?\]", "", command)
    first, *others = plain.split(" | ")
    yield first
    yield from (f"{first.rpartition(' ')[0]} {other}" for other in others)
    yield from (f"{plain} {option}" for option in re.findall(r"\[(.*?)\]", command))


(COMMANDS,) = (block for block in blocks("") if block.startswith("nas "))
IN_PROSE = re.findall(r"`(nas [^`]+)`", README)
FORMS = list(dict.fromkeys(f for line in [*COMMANDS.splitlines(), *IN_PROSE] for f in forms(line)))


def settle(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Where commands are typed: a folder of its own, no variable set, CIFAR-10 as if it were there.

    The process that would fill MLflow's store, seconds long, stays away.
    """
    for name in (
        "NAS_HOME", "NAS_DATABASE_URL", "NAS_SEARCH_SPACES", "NAS_DATA_DIR", "MLFLOW_TRACKING_URI",
    ):  # fmt: skip
        patch.delenv(name, raising=False)
    patch.setenv("NAS_CACHE_DIR", str(folder / "cache"))
    patch.setattr("nas.run.running.Projector", lambda *_: contextlib.nullcontext())
    patch.setattr("nas.task.cifar10_files._faults", lambda _: [])
    patch.chdir(folder)


@dataclass(frozen=True)
class Typed:
    """A folder in which the README's request was typed: one search ended, one was stopped."""

    folder: Path
    finished: str
    stopped: str
    model: Path
    """A translation network trained alone."""


@pytest.fixture(scope="module")
def typed(tmp_path_factory: pytest.TempPathFactory) -> Typed:
    """The request as the README has it, but for its sizes, its executor and where its data are."""
    folder = tmp_path_factory.mktemp("typed")
    generator = numpy.random.default_rng(0)
    for name in ("oak", "elm"):
        (folder / "data" / "leaves" / name).mkdir(parents=True)
        for number in range(30):
            pixels = generator.integers(0, 256, (32, 32, 3), numpy.uint8)
            Image.fromarray(pixels).save(folder / "data" / "leaves" / name / f"{number}.png")
    # As if WMT14 had been downloaded, and a corpus of one's own; of 10,000 pieces and more.
    letters = generator.choice(list("abcdefghijklmnopqrstuvwxyz"), (2000, 60))
    letters[:, ::6] = " "
    text = "".join(f"{''.join(line)}\n" for line in letters)
    for corpus in ("wmt14_en_de", "my-corpus"):
        (folder / "data" / corpus).mkdir()
        for split, language in itertools.product(("train", "valid", "test"), ("en", "de")):
            written(folder / "data" / corpus / f"{split}.{language}", text)
    (request,) = blocks("yaml")
    given = parse_yaml(request, "README.md") | TINY
    given["task"]["path"] = "leaves"
    written(folder / "my-search.yaml", given)

    def interrupt(_: Bars, update: Update) -> None:
        if (update.phase, update.done) == ("search", 4):
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        settle(patch, folder)
        finished = nas("search", "my-search.yaml", "--json").json["id"]
        written(folder / "ARCHITECTURE.json", nas("pareto", finished, "--best").out)
        patch.setattr(Bars, "__call__", interrupt)
        said = nas("search", "my-search.yaml")
        model = translating(folder)
    assert said.code == 130
    return Typed(folder, finished, said.err.split()[1], model)


def translating(folder: Path) -> Path:
    """A network that `nas confirm` could have trained, for two steps, and its architecture."""
    spec = load_spec(TRANSLATION)
    architecture = spec.search_space.extreme("smallest")
    written(folder / "text.json", json.dumps(architecture.to_json()))
    data = catalog.TASKS.load("numbers_en_de").load(spec.task.configured(catalog.TASKS, ""), folder)
    for _ in train_standalone(architecture, spec, data, seed=0, folder=folder, device="cpu"):
        pass
    return standalone_file(folder, architecture, 0)


@pytest.mark.parametrize("form", FORMS)
def test_a_command_runs(form: str, typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    settle(monkeypatch, typed.folder)
    names = {
        "ID": typed.stopped if "--resume" in form else typed.finished,
        "NAME": "cifar10_small",
        "MODEL": typed.model,
        "ARCHITECTURE.json": "text.json" if "wmt14_en_de" in form else "ARCHITECTURE.json",
        "FILE": "page.html" if "--html" in form else ROOT / "search_spaces" / "digits_tiny.yaml",
    }
    program, *words = shlex.split(form)
    assert program == "nas"
    if words[0] == "translate":
        # With or without the shell's `< en > de`.
        assert words[2:] in ([], ["<", "en", ">", "de"])
        assert translated(typed.model, b"one\n\ntwo\n", monkeypatch).count(b"\n") == 3
        return
    said = nas(*(names.get(word, word) for word in words))
    assert said.code == 0, said.err
    assert said.out


def translated(model: Path, lines: bytes, patch: pytest.MonkeyPatch) -> bytes:
    """What `nas translate` writes for what it reads."""
    patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines)))
    out = io.BytesIO()
    with contextlib.redirect_stdout(io.TextIOWrapper(out)) as text:
        assert run(["translate", str(model)]) == 0
        text.flush()
        return out.getvalue()


def test_every_command_and_option_is_among_those_run() -> None:
    assert {form.split()[1] for form in FORMS} == {
        "search", "list", "pareto", "fidelity", "confirm", "compare", "cost", "spaces", "data",
        "doctor", "translate",
    }  # fmt: skip
    told, run = (set(re.findall(r"--[a-z][a-z-]*", text)) for text in (README, "\n".join(FORMS)))
    # Where things are kept is the next test's, one is MLflow's own, and those of the service are
    # tested with it.
    service = {"--server", "--data-binary"}
    assert told - run == {"--home", "--backend-store-uri", *service}


def test_everything_is_kept_where_it_is_told(
    typed: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle(monkeypatch, tmp_path)
    home = typed.folder / "nas-work"
    assert {"record.db", "searches", "supernets"} <= {path.name for path in home.iterdir()}
    assert nas("pareto", typed.finished).code == 2
    shown = nas("pareto", typed.finished, "--json", "--home", home)
    assert shown.json["id"] == typed.finished
    monkeypatch.setenv("NAS_HOME", str(home))
    assert nas("pareto", typed.finished, "--json") == shown


def test_the_python_lines_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (source,) = (block for block in blocks("python") if "run_search" in block)
    [path] = re.findall(r'run_search\("(.*?)"\)', source)
    (tmp_path / path).parent.mkdir(parents=True)
    written(tmp_path / path, load_spec(ROOT / path).to_json() | TINY)
    settle(monkeypatch, tmp_path)
    module = types.ModuleType("typed")
    exec(source, vars(module))
    result = module.result
    assert [row["cross_entropy"] for row in result.front] == sorted(
        row["cross_entropy"] for row in result.front
    )
    assert isinstance(result.frame(), pandas.DataFrame)
    assert len(result.frame()) == len(result.front) > 0
    assert all(sentence.endswith(".") for sentence in result.words)


def test_the_kernels_lines_run_and_print_what_they_say(capsys: pytest.CaptureFixture[str]) -> None:
    (source,) = blocks("python", (ROOT / "kernels" / "README.md").read_text(encoding="utf-8"))
    exec(source, {})
    assert f"# {capsys.readouterr().out}" in source


def test_the_two_commands_are_make_targets() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    commands = re.findall(r"^make (\w+) ", README, flags=re.MULTILINE)
    assert commands == ["demo", "test"]
    for target in commands:
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE)
    demo = re.search(r"nas search (\S+)", makefile)
    assert demo is not None
    assert load_spec(ROOT / demo[1]).task.name == "digits"


def test_the_request_is_valid(tmp_path: Path) -> None:
    for name in ("oak", "elm"):
        (tmp_path / name).mkdir()
    (request,) = blocks("yaml")
    given = parse_yaml(request, "README.md")
    given["task"]["path"] = str(tmp_path)
    spec = load_spec(given)
    assert isinstance(spec.task_shape, ImageShape)
    assert spec.task_shape.classes == 2
    assert spec.search_space.name == "cifar10_small"


def test_the_sizes_and_spaces_are_as_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NAS_SEARCH_SPACES", raising=False)
    assert f"{load_space('digits_tiny').size:,} architectures" in README
    [sentence] = re.findall(r"names the shipped spaces: (.*?)\.", README, flags=re.DOTALL)
    told = []
    for name in re.findall(r"`(.*?)`", sentence):
        # `family_tiny/small` are `family_tiny` and `family_small`.
        first, *others = name.split("/")
        told += [first, *(f"{first.rpartition('_')[0]}_{other}" for other in others)]
    assert sorted(told) == sorted(space_names())


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_pictures_and_links_are_there_and_small(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", (ROOT / page).read_text(encoding="utf-8")):
        path = (ROOT / page).parent / target
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
    supernet = Supernet(space, ImageShape(8, 1, 10)).eval()
    plain, sharp = (space.extreme("largest", choice) for choice in space.all_attentions)
    images = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        scores = supernet(images, sharp)
        torch.testing.assert_close(supernet.extract(sharp)(images), scores)
        # Per-type weights: only the same weights show that the function itself is another.
        shared = Supernet(space, ImageShape(8, 1, 10), "shared_qkvo").eval()
        assert not torch.allclose(shared(images, sharp), shared(images, plain))


@pytest.mark.usefixtures("bert_table")
@pytest.mark.parametrize(
    "path", sorted((ROOT / "search_spaces" / "searches").glob("*.yaml")), ids=lambda p: p.stem
)
def test_shipped_requests_are_valid(path: Path) -> None:
    spec = load_spec(path)
    assert load_spec(spec.to_json()) == spec
