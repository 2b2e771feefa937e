"""`nas translate MODEL < en > de`: is every line translated, whatever lines it stands among?"""

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from nas import catalog
from nas.cli.app import run
from nas.run.translating import load_translator
from nas.search.stages import Evaluation
from nas.task.subwords import Subwords
from nas.train import checkpoint
from nas.train.standalone import standalone_file, train_standalone
from nas.train.supernet import supernet_file, train_supernet
from tests.cli.terminal import Said, refused
from tests.run.cases import environment
from tests.task.small_numbers import request, small_data
from tests.train import cases

WIDTHS: dict[str, Any] = {"width": [48], "depth": [1]}
LAYERS: dict[str, Any] = {
    "attention": ["softmax"],
    "heads": [2],
    "head_width": [16],
    "ffn_width": [64],
}
CROSS = {"cross_attention": ["softmax"], "cross_heads": [2], "cross_head_width": [16]}
SPACE = {
    "name": "learnable",
    "kind": "encoder_decoder",
    "embeddings": "shared",
    "encoder": {**WIDTHS, "layers": LAYERS},
    "decoder": {**WIDTHS, "layers": {**LAYERS, **CROSS}},
}
LEARNT = {"steps": 250, "batch_tokens": 500, "learning_rate": 6e-3, "warmup_steps": 30}
TASK = {"name": "numbers_en_de", "pairs": 1500, "validation": 40, "test": 20, "vocabulary": 300}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """The thread count is given back as it was."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def sources() -> list[str]:
    """Sentences that the network has not seen."""
    data = small_data(request(task=TASK))
    return data.sources(data.validation())


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that has learnt what such sentences look like."""
    folder = tmp_path_factory.mktemp("model")
    spec = request(standalone=LEARNT, space=SPACE, task=TASK)
    architecture = spec.search_space.extreme("smallest")
    data = small_data(spec)
    *_, last = train_standalone(architecture, spec, data, seed=0, folder=folder, device="cpu")
    assert last.loss < 2.2
    return standalone_file(folder, architecture, 0)


def translate(patch: pytest.MonkeyPatch, given: bytes, *arguments: object) -> Said:
    """`nas translate ARGUMENTS` with these bytes to read, in a terminal of Latin-1."""
    out, err = io.TextIOWrapper(io.BytesIO(), "latin-1"), io.StringIO()
    patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given), "latin-1"))
    patch.setattr(sys, "stdout", out)
    patch.setattr(sys, "stderr", err)
    code = run(["translate", *map(str, arguments)])
    written = out.buffer
    assert isinstance(written, io.BytesIO)
    return Said(code, written.getvalue().decode(), err.getvalue())


def lines_of(said: Said) -> list[str]:
    assert (said.code, said.err) == (0, "")
    assert said.out == "" or said.out.endswith("\n")
    return said.out.split("\n")[:-1]


# -- lines -----------------------------------------------------------------------------------------


def test_every_line_has_its_translation(
    model: Path, sources: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = "".join(f"{line}\n" for line in sources).encode()
    found = lines_of(translate(monkeypatch, given, model))
    assert len(found) == len(sources)
    assert len(set(found)) > len(sources) / 4
    # Of some sense: an ordinal or a date starts with an article in both languages.
    same = [
        one.startswith("the ") == other.startswith("der ")
        for one, other in zip(sources, found, strict=True)
    ]
    assert sum(same) > 0.9 * len(sources)
    assert lines_of(translate(monkeypatch, given, model)) == found


def test_empty_lines_and_ends_of_lines_stay_lines(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = lines_of(translate(monkeypatch, b"seven\nthe third\n", model))
    odd = b"\nseven\r\n\r\n \t \nthe third"
    assert lines_of(translate(monkeypatch, odd, model)) == ["", plain[0], "", "", plain[1]]
    # A character that stays is one that the scores know of.
    unix, dos = (
        lines_of(translate(monkeypatch, each, model, "--n-best", 2))
        for each in (b"seven\n", b"seven\r\n")
    )
    assert unix == dos
    assert lines_of(translate(monkeypatch, b"", model)) == []
    assert lines_of(translate(monkeypatch, b"\n", model)) == [""]


def test_a_line_is_one_line_whatever_is_in_it(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # None of these ends a line of the input, and so none may in the output.
    given = "a\rb\nseven\u2028eight\n\x0bnine\x0c\n\x00\n</s> <pad>\n日本語 \U0001f600\n".encode()
    found = translate(monkeypatch, given, model)
    assert len(lines_of(found)) == 6
    assert len(found.out.splitlines()) == 6
    monkeypatch.setattr(Subwords, "decode", lambda *_: "a\nb\r\nc\u2028d")
    assert lines_of(translate(monkeypatch, b"seven\n", model)) == ["a b c d"]


def test_a_translation_does_not_depend_on_its_neighbours(
    model: Path, sources: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = sources[:25]
    given = "".join(f"{line}\n" for line in sources).encode()
    together = lines_of(translate(monkeypatch, given, model))
    for tokens in (1, 40, 1_000_000):
        found = lines_of(translate(monkeypatch, given, model, "--batch-tokens", tokens))
        assert found == together
    translator = load_translator(model, "cpu", torch.float32)
    alone = [translator.translate([line], Evaluation())[0][0].text for line in sources]
    assert alone == together
    back = lines_of(translate(monkeypatch, b"\n".join(reversed(given.splitlines())), model))
    assert back[::-1] == together


def test_more_lines_than_are_sorted_together(
    model: Path, sources: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = "".join(f"{line}\n" for line in sources[:8]).encode()
    together = lines_of(translate(monkeypatch, given, model))
    monkeypatch.setattr("nas.cli.translate.LINES", 3)
    assert lines_of(translate(monkeypatch, given, model)) == together
    numbered = lines_of(translate(monkeypatch, given, model, "--n-best", 2))
    assert [int(line.split("\t")[0]) for line in numbered] == [n for n in range(1, 9) for _ in "ab"]


def test_the_best_n_are_numbered_and_scored(
    model: Path, sources: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = f"{sources[0]}\n\n{sources[1]}\n".encode()
    best = lines_of(translate(monkeypatch, given, model))
    found = [
        line.split("\t") for line in lines_of(translate(monkeypatch, given, model, "--n-best", 3))
    ]
    assert [line[0] for line in found] == ["1", "1", "1", "2", "3", "3", "3"]
    assert found[3] == ["2", "0.0000", ""]
    for number, rows in (("1", found[:3]), ("3", found[4:])):
        scores = [float(score) for _, score, _ in rows]
        assert scores == sorted(scores, reverse=True)
        assert scores[0] < 0
        assert rows[0][2] == best[int(number) - 1]
        assert len({text for *_, text in rows}) == 3


# -- what cannot be translated ---------------------------------------------------------------------


def test_a_line_that_cannot_be_read_is_numbered(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused(translate(monkeypatch, b"seven\n\xff\n", model), "line 2", "not UTF-8")
    long = b"seven\n\n" + b"x1 " * 5000 + b"\n"
    refused(translate(monkeypatch, long, model), "line 3", "tokens", "4096")
    monkeypatch.setattr("nas.cli.translate.LINES", 2)
    said = translate(monkeypatch, long, model)
    assert (said.code, said.out.count("\n")) == (2, 2)
    assert "line 3" in said.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--n-best", "5"], ["n_best 5", "1 to the beam, 4"]),
        (["--device", "tpu"], ["device", "'tpu'"]),
        (["--device", "cuda:99"], ["device", "cuda:99", "GPUs"]),
        (["--beam", "0"], ["--beam"]),
        (["--length-penalty", "11"], ["--length-penalty"]),
        (["--batch-tokens", "1000001"], ["--batch-tokens"]),
        (["--threads", "100000"], ["--threads"]),
        (["--dtype", "int8"], ["--dtype"]),
    ],
)
def test_an_option_that_cannot_be_is_refused(
    arguments: list[str], words: list[str], model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused(translate(monkeypatch, b"seven\n", model, *arguments), *words)


def test_what_translates_nothing_is_refused(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def said(file: Path) -> Said:
        return translate(monkeypatch, b"seven\n", file)

    refused(said(tmp_path / "none"), "no such file", code=1)
    refused(said(tmp_path), "no such file", code=1)
    (tmp_path / "text").write_text("hello")
    refused(said(tmp_path / "text"), "text: not readable as a checkpoint", code=1)
    texts = request({"steps": 1})
    list(train_supernet(texts, small_data(texts), tmp_path, "cpu"))
    refused(said(supernet_file(tmp_path)), "no network trained alone", code=1)
    images = cases.request(standalone={"steps": 1})
    task = catalog.TASKS.load("digits")
    data = task.load(task.options_model(), tmp_path)
    small = images.search_space.extreme("smallest")
    list(train_standalone(small, images, data, seed=0, folder=tmp_path, device="cpu"))
    refused(said(standalone_file(tmp_path, small, 0)), "task digits", "translates nothing")
    assert said(model).code == 0


@pytest.mark.parametrize(
    ("pieces", "said"),
    [
        ({"subwords": '{"broken'}, "pieces cannot be read"),
        ({"subwords": 5}, "pieces cannot be read"),
        ({"dictionaries": {}}, "pieces cannot be read"),
        (
            {
                "dictionaries": {
                    **{side: ["<s>", "<pad>", "</s>", "<unk>"] for side in ("sources", "targets")},
                    **{"joined": "none", "tokenizer": "none", "language": "de"},
                }
            },
            "of its pieces there are (4, 4), the network has (300, 300)",
        ),
    ],
)
def test_a_model_with_other_pieces_than_its_own_is_refused(
    pieces: dict[str, Any],
    said: str,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    state, file = checkpoint.read_state(model, {}), tmp_path / "other.safetensors"
    about = {**state.about, "data": pieces}
    checkpoint.write(file, load_file(model), replace(state, about=about))
    refused(translate(monkeypatch, b"seven\n", file), "other.safetensors", said, code=1)


# -- the real command ------------------------------------------------------------------------------


def test_a_reader_that_goes_away_ends_it_quietly(
    model: Path, sources: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    err = io.StringIO()
    with contextlib.suppress(BrokenPipeError), os.fdopen(writing, "w") as gone:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(sources[0].encode())))
        monkeypatch.setattr(sys, "stdout", gone)
        monkeypatch.setattr(sys, "stderr", err)
        assert run(["translate", str(model)]) == 1
    assert err.getvalue() == ""


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-"])
def test_a_closed_stream_is_empty_or_swallows(closed: str, model: Path) -> None:
    command = (
        f'"{sys.executable}" -c "from nas.cli import main; main()" translate "{model}" {closed}'
    )
    said = subprocess.run(
        command,
        shell=True,
        input=b"seven\n",
        capture_output=True,
        env=environment(os.environ),
        check=False,
    )
    assert (said.returncode, said.stderr) == (0, b"")
    assert bool(said.stdout) == (closed == "2>&-")


def test_the_command_in_a_terminal_of_another_encoding(model: Path, sources: list[str]) -> None:
    translator = load_translator(model, "cpu", torch.float32)
    found = translator.translate(sources, Evaluation())
    pairs = zip(sources, (each[0].text for each in found), strict=True)
    source, target = next((one, two) for one, two in pairs if not two.isascii())
    other = {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "latin-1"}
    said = subprocess.run(
        [sys.executable, "-c", "from nas.cli import main; main()", "translate", str(model)],
        input=f"{source}\n\n日本語\n".encode(),
        capture_output=True,
        env=environment(os.environ, **other),
        check=True,
    )
    assert said.stdout.startswith(f"{target}\n\n".encode())
    assert said.stdout.decode().count("\n") == 3
    assert said.stderr == b""
