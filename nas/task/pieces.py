"""What are a network's ids? Pieces of sentences: what every way to cut them offers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from nas.task.dictionaries import Dictionaries
from nas.task.subwords import Subwords
from nas.task.task import Data


class Pieces(Protocol):
    """Texts to translate become ids, and ids that a network wrote become texts."""

    @property
    def digest(self) -> str:
        """Tells these pieces from any others."""

    @property
    def vocabularies(self) -> tuple[int, int]:
        """How many ids the source and the target have; raises `ValueError` for broken pieces."""

    def encode(self, sentences: Sequence[str], /) -> list[list[int]]:
        """Ids of each text to translate, without BOS and EOS; none of an empty one."""

    def source(self, ids: Sequence[int], /) -> str:
        """The text to translate that has these ids; marks stand for none."""

    def decode(self, ids: Sequence[int], /) -> str:
        """The translation that has these ids, as it is judged and shown; marks stand for none."""

    def to_json(self) -> dict[str, Any]:
        """All of it, for `read_pieces`."""


class TranslationData(Data, Protocol):
    """What the data of a task with `generated` metrics offer besides."""

    @property
    def pieces(self) -> Pieces:
        """What its ids are."""

    def source_ids(self, chosen: Any, /) -> Sequence[Sequence[int]]:
        """The ids to translate of such a set, without EOS."""

    def references(self, chosen: Any, /) -> Sequence[str]:
        """Their true translations, each on one line."""


def read_pieces(content: Mapping[str, Any]) -> Pieces | None:
    """The pieces among what a network needs to be used; None where it reads no texts."""
    if "subwords" in content:
        return Subwords(content["subwords"])
    if "dictionaries" in content:
        return Dictionaries.from_json(content["dictionaries"])
    return None
