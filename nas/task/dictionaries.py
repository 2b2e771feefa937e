"""Which ids have the words of two dictionaries? Their places, for text that is cut already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

from nas.space.digest import digest
from nas.space.sentence_pairs import BOS, EOS, PAD, UNKNOWN

Joined = Literal["subword_nmt", "sentencepiece", "none"]
Tokenizer = Literal["moses", "none"]


@dataclass(frozen=True)
class Dictionaries:
    """The symbols of either side by id, the first four being <s>, <pad>, </s> and <unk>.

    A text to translate is symbols with white space between them, as fairseq's own commands take it;
    what the dictionary lacks is <unk>, and so is the name of another mark. A translation is put
    together again: its pieces `joined` as subword-nmt ("@@ " goes) or sentencepiece wrote them, and
    then, for `tokenizer` moses, the spaces taken out that its tokenizer put between words and
    punctuation of `language`.
    """

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    joined: Joined
    tokenizer: Tokenizer
    language: str

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Dictionaries:
        """Of what `to_json` gave."""
        sides = {side: tuple(content[side]) for side in ("sources", "targets")}
        return cls(**{**content, **sides})

    def to_json(self) -> dict[str, Any]:
        """All of it, for `read_pieces`."""
        return {"dictionaries": asdict(self)}

    @property
    def vocabularies(self) -> tuple[int, int]:
        """How many ids the source and the target have."""
        return len(self.sources), len(self.targets)

    @cached_property
    def digest(self) -> str:
        """Tells these pieces from any others."""
        return digest(self.to_json())

    @cached_property
    def _places(self) -> dict[str, int]:
        return {word: place for place, word in enumerate(self.sources) if place >= UNKNOWN}

    def encode(self, sentences: Sequence[str]) -> list[list[int]]:
        """Ids of each text to translate, without BOS and EOS; none of an empty one."""
        places = self._places
        return [[places.get(each, UNKNOWN) for each in line.split()] for line in sentences]

    def source(self, ids: Sequence[int]) -> str:
        """The text to translate that has these ids; marks stand for none."""
        return _spaced(self.sources, ids)

    def decode(self, ids: Sequence[int]) -> str:
        """The translation that has these ids, put together; marks stand for none."""
        text = _spaced(self.targets, ids)
        if self.joined == "subword_nmt":
            text = f"{text} ".replace("@@ ", "").rstrip()
        elif self.joined == "sentencepiece":
            text = text.replace(" ", "").replace("\u2581", " ").strip()
        return text if self.tokenizer == "none" else self._detokenizer.detokenize(text.split())

    @cached_property
    def _detokenizer(self) -> Any:
        from sacremoses import MosesDetokenizer

        return MosesDetokenizer(lang=self.language)


def _spaced(symbols: Sequence[str], ids: Sequence[int]) -> str:
    return " ".join(symbols[each] for each in ids if each not in (BOS, PAD, EOS))
