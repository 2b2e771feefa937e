"""Are symbols of dictionaries found by their places, and put together as their cutters cut them?"""

import json
import pickle
from typing import Any

import pytest

from nas.task.dictionaries import Dictionaries
from nas.task.pieces import read_pieces

MARKS = ("<s>", "<pad>", "</s>", "<unk>")
CUT = ("Stra@@", "ße", ",", "&quot;", "@-@", "▁so", "gar", "d@@")


def dictionaries(**given: Any) -> Dictionaries:
    whole = {"joined": "subword_nmt", "tokenizer": "none", "language": "de", **given}
    return Dictionaries((*MARKS, "a", "house"), (*MARKS, *CUT), **whole)


def test_a_text_is_symbols_with_white_space_between() -> None:
    pieces = dictionaries()
    lines = ["a house", " a\t a  ", "", "A house</s>", "a </s>", "a <unk>"]
    assert pieces.encode(lines) == [[4, 5], [4, 4], [], [3, 3], [4, 3], [4, 3]]
    assert pieces.source([4, 5, 2]) == "a house"
    assert pieces.source([0, 4, 3, 1, 1]) == "a <unk>"
    for line in ("a house", "a a", "a <unk>"):
        assert pieces.source(pieces.encode([line])[0]) == line


JOINED = {
    "subword_nmt": ([4, 5, 6, 4, 5, 2], "Straße , Straße"),
    "sentencepiece": ([9, 10, 9, 2], "sogar so"),
    "none": ([4, 5, 6, 2], "Stra@@ ße ,"),
}


@pytest.mark.parametrize("joined", JOINED)
def test_a_translation_is_put_together(joined: str) -> None:
    ids, text = JOINED[joined]
    assert dictionaries(joined=joined).decode(ids) == text


# A piece may stay without the rest of its word, and a word may hold the mark of a joint.
ODD = ([4, 2], [11, 4, 5], [5, 4, 11, 6], [9, 4, 5, 10], [3, 4, 5], [2])


@pytest.mark.fairseq
@pytest.mark.parametrize("joined", JOINED)
def test_fairseq_puts_it_together_alike(joined: str) -> None:
    from fairseq.data import Dictionary

    theirs = Dictionary()
    for symbol in CUT:
        theirs.add_symbol(symbol)
    pieces = dictionaries(joined=joined)
    assert theirs.symbols == list(pieces.targets)
    for ids in (*ODD, *(ids for ids, _ in JOINED.values())):
        assert pieces.decode(ids) == theirs.string(ids, joined)
    assert pieces.encode(["a"]) == [[4]]


def test_moses_takes_out_what_its_tokenizer_put_in() -> None:
    pieces = dictionaries(tokenizer="moses")
    # Stra@@ ße , &quot; Straße &quot;
    assert pieces.decode([4, 5, 6, 7, 4, 5, 7]) == 'Straße, "Straße"'
    assert pieces.decode([4, 5, 8, 4, 5]) == "Straße-Straße"
    assert pickle.loads(pickle.dumps(pieces)).decode([4, 5, 6]) == "Straße,"


def test_they_are_read_from_what_they_write() -> None:
    pieces = dictionaries(joined="sentencepiece")
    again = read_pieces(json.loads(json.dumps(pieces.to_json())))
    assert again == pieces
    assert again is not None
    assert again.digest == pieces.digest
    assert pickle.loads(pickle.dumps(pieces)) == pieces
    others = [dictionaries(), dictionaries(joined="none"), dictionaries(language="en")]
    assert len({pieces.digest, *(each.digest for each in others)}) == 4
    assert read_pieces({"classes": ["a", "b"]}) is None
