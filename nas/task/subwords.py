"""Into which pieces is a sentence cut? Byte-level BPE of both languages, learnt once."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.errors import DataError, SpecError
from nas.space.digest import digest
from nas.task.cache import built
from nas.task.parallel_text import Chunk

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SPECIALS = ("<s>", "<pad>", "</s>", "<unk>")
# Every byte is a piece, so that any text can be written.
LEAST_VOCABULARY = len(SPECIALS) + 256
# Merging takes the square of a run's length: of a line that goes on, pieces are learnt no further.
LEARNT_CHARACTERS = 4096
# Another layout of what is learnt is another entry of the cache.
FORMAT = 2


class Subwords:
    """Byte-level byte-pair encoding (Sennrich et al. 2016), the same for both languages.

    Ids 0 to 3 are `SPECIALS` and stand for no text, whatever the text is; `decode` of `encode` is
    the text, byte for byte. A sentence starts with a space, so that its first word is the word that
    it is elsewhere. Written down and pickled as the JSON text of the tokenizers library.
    """

    def __init__(self, text: str) -> None:
        self.text = text

    def __reduce__(self) -> tuple[type[Subwords], tuple[str]]:
        return Subwords, (self.text,)

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        from tokenizers import Tokenizer

        try:
            return Tokenizer.from_str(self.text)
        # The library has no class of its own for it.
        except Exception as error:
            raise ValueError(f"no tokenizer: {error}") from error

    @cached_property
    def digest(self) -> str:
        """Tells these pieces from any others."""
        return digest(self.text)

    @property
    def vocabulary(self) -> int:
        """How many ids there are, `SPECIALS` included; raises `ValueError` for a broken text."""
        return self._tokenizer.get_vocab_size()

    @property
    def vocabularies(self) -> tuple[int, int]:
        """That of either language."""
        return self.vocabulary, self.vocabulary

    def encode(self, sentences: Sequence[str]) -> list[list[int]]:
        """Ids of each sentence without BOS and EOS, in parallel threads; none of an empty one."""
        spaced = [f" {sentence}" if sentence else "" for sentence in sentences]
        found = self._tokenizer.encode_batch_fast(spaced, add_special_tokens=False)
        return [each.ids for each in found]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; specials stand for none, bytes that are no UTF-8 become U+FFFD."""
        pieces = [each for each in ids if each >= len(SPECIALS)]
        text: str = self._tokenizer.decode(pieces, skip_special_tokens=False)
        return text.removeprefix(" ")

    # Sources and translations are cut alike.
    source = decode

    def to_json(self) -> dict[str, Any]:
        """All of it, for `read_pieces`."""
        return {"subwords": self.text}


def learnt(content: str, chunks: Iterable[Chunk], vocabulary: int) -> Subwords:
    """The pieces of a corpus, read from the cache or learnt of `chunks` and kept there.

    `content` is the digest of what `chunks` will give; what they raise goes through.

    Raises:
        SpecError: if the text has fewer pieces than `vocabulary`.
    """

    def build(folder: Path) -> None:
        lines = (line for chunk in chunks for side in chunk for line in side)
        (folder / "tokenizer.json").write_text(learn(lines, vocabulary).text, encoding="utf-8")

    folder = built("subwords", digest([FORMAT, content, vocabulary]), build)
    try:
        found = Subwords((folder / "tokenizer.json").read_text(encoding="utf-8"))
        if found.vocabulary != vocabulary:
            raise ValueError(f"{found.vocabulary} pieces, not {vocabulary}")
    except (OSError, ValueError) as error:
        raise DataError(f"{folder}: damaged ({error}); delete it, and it is made anew") from error
    return found


def learn(lines: Iterable[str], vocabulary: int) -> Subwords:
    """Byte-pair merges of the lines until there are `vocabulary` ids; the same each time.

    Of each line the first 4,096 characters count.

    Raises:
        SpecError: if the lines have fewer pieces than that.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIALS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator((f" {line[:LEARNT_CHARACTERS]}" for line in lines), trainer)
    content: dict[str, Any] = json.loads(tokenizer.to_str())
    # As added tokens they would be found in the text: a sentence may speak of </s>.
    content["added_tokens"] = []
    found = Subwords(json.dumps(content, ensure_ascii=False, separators=(",", ":")))
    if found.vocabulary != vocabulary:
        raise SpecError(
            f"task.vocabulary: {vocabulary} given, and the training text has only "
            f"{found.vocabulary} pieces; {LEAST_VOCABULARY} to {found.vocabulary} allowed"
        )
    return found
