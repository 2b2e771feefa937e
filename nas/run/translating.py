"""How does a trained network translate: any number of lines, or the sentences of a data set?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from nas.errors import CheckpointError, SpecError
from nas.model.beam_search import translate_in_batches
from nas.model.network import StandaloneNetwork
from nas.search.stages import Evaluation
from nas.space.task_shape import TextShape
from nas.task.parallel_text import is_empty
from nas.task.pieces import Pieces, TranslationData, read_pieces
from nas.task.task import Examples
from nas.task.text_data import one_line
from nas.train.standalone import load_model

# Longer ones are no sentences; their attention would fill the memory.
MOST_TOKENS = 4096


@dataclass(frozen=True)
class Translation:
    """One line's translation and its score, the length-normalised log-probability in nats."""

    text: str
    score: float


class Translator:
    """A trained network with the pieces that it reads and writes."""

    def __init__(self, network: StandaloneNetwork, pieces: Pieces) -> None:
        self.network, self.pieces = network.eval(), pieces
        self._decoding = network.decoding()
        self._device = next(network.parameters()).device

    def translate(
        self, lines: Sequence[str], evaluation: Evaluation, *, n_best: int = 1, first: int = 1
    ) -> list[list[Translation]]:
        """The n best translations of each line, the best first.

        A line of white space has one, which is empty.

        Raises `SpecError` for a line of more than 4,096 tokens, its number counted from `first`.
        """
        ids = self.pieces.encode(lines)
        for number, each in enumerate(ids, first):
            if len(each) >= MOST_TOKENS:
                raise SpecError(
                    f"line {number} has {len(each) + 1} tokens, at most {MOST_TOKENS} are allowed"
                )
        # None was learnt from: what the network made of it would be noise.
        full = [place for place, each in enumerate(lines) if not is_empty(each)]
        found = self.write([ids[place] for place in full], evaluation, n_best=n_best)
        translations = [[Translation("", 0.0)] for _ in lines]
        for place, written in zip(full, found, strict=True):
            translations[place] = written
        return translations

    def write(
        self, sources: Sequence[Sequence[int]], evaluation: Evaluation, *, n_best: int = 1
    ) -> list[list[Translation]]:
        """The n best translations of each source, its ids without EOS, the best first."""
        found = translate_in_batches(
            self._decoding,
            sources,
            batch_tokens=evaluation.batch_tokens,
            beam=evaluation.beam,
            length_penalty=evaluation.length_penalty,
            n_best=n_best,
            device=self._device,
        )
        return [
            [Translation(one_line(self.pieces.decode(each.tokens)), each.score) for each in best]
            for best in found
        ]


def load_translator(file: Path, device: torch.device | str, dtype: torch.dtype) -> Translator:
    """The translator that a file of weights holds.

    Raises `CheckpointError` for a file that is none or is not finished, `SpecError` for a network
    that translates nothing and a GPU that is not there.
    """
    _check_device(torch.device(device))
    model = load_model(file)
    try:
        pieces = read_pieces(model.data)
        found = None if pieces is None else pieces.vocabularies
    except (LookupError, TypeError, ValueError) as error:
        raise CheckpointError(f"{file}: its pieces cannot be read ({error})") from error
    shape = model.network.shape
    if pieces is None or not isinstance(shape, TextShape):
        raise SpecError(f"{file}: a network of task {model.task.name} translates nothing")
    if found != (wanted := (shape.source_vocabulary, shape.target_vocabulary)):
        raise CheckpointError(f"{file}: of its pieces there are {found}, the network has {wanted}")
    return Translator(model.network.to(device, dtype), pieces)


def _check_device(device: torch.device) -> None:
    seen = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= seen:
        raise SpecError(f"device: {device} given; torch sees {seen} GPUs on this machine")


def translated(
    network: StandaloneNetwork, data: TranslationData, chosen: Examples, evaluation: Evaluation
) -> list[str]:
    """The best translation of each of a set's sources."""
    found = Translator(network, data.pieces).write(data.source_ids(chosen), evaluation)
    return [each[0].text for each in found]
