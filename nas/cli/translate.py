"""`nas translate`: a trained network at work, line by line."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import typer

from nas.errors import DataError

# So many lines are sorted by length together; their translations appear together.
LINES = 2000


def translate(
    model: Annotated[Path, typer.Argument(help="What `nas confirm` trained: a .safetensors file.")],
    beam: Annotated[int, typer.Option(min=1, max=1024, help="Hypotheses a sentence.")] = 4,
    length_penalty: Annotated[
        float, typer.Option(min=-10, max=10, help="Scores are log p / length^PENALTY.")
    ] = 0.6,
    n_best: Annotated[int, typer.Option(min=1, help="Translations of a line.")] = 1,
    batch_tokens: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="Source tokens at a time.")
    ] = 2000,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    dtype: Annotated[Literal["float32", "bfloat16", "float16"], typer.Option()] = "float32",
    threads: Annotated[
        int | None, typer.Option(min=1, max=1024, help="CPU threads; all by default.")
    ] = None,
) -> None:
    """Translate standard input, one sentence a line: `nas translate MODEL < en > de`.

    With --n-best above 1, every line of output is NUMBER, SCORE and TEXT, parted by tabs.
    """
    import torch

    from nas.run.translating import load_translator
    from nas.search.spec import parse_workload
    from nas.search.stages import Evaluation

    parse_workload({"device": device}, "nas translate")
    if threads is not None:
        torch.set_num_threads(threads)
    evaluation = Evaluation(beam=beam, length_penalty=length_penalty, batch_tokens=batch_tokens)
    translator = load_translator(model, device, getattr(torch, dtype))
    for first, lines in _chunks():
        found = translator.translate(lines, evaluation, n_best=n_best, first=first)
        for number, each in enumerate(found, first):
            for one in each:
                text = one.text if n_best == 1 else f"{number}\t{one.score:.4f}\t{one.text}"
                # Bytes, so that a terminal of another encoding changes nothing in a file.
                typer.echo(text.encode())


def _chunks() -> Iterator[tuple[int, list[str]]]:
    """The lines of standard input, some at a time, with the number of the first."""
    numbered = enumerate(sys.stdin.buffer, 1)
    while chunk := list(itertools.islice(numbered, LINES)):
        yield chunk[0][0], [_text(number, line) for number, line in chunk]


def _text(number: int, line: bytes) -> str:
    try:
        return line.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise DataError(f"standard input, line {number}: not UTF-8 ({error.reason})") from error


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(translate)
