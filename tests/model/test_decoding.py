"""Is what is written token by token what the network gives when it reads all tokens at once?"""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from nas.errors import SpecError
from nas.model.decoding import Decoding, IncrementalState
from nas.model.encoder_decoder import longest_target
from nas.model.network import StandaloneNetwork
from nas.model.supernet import Supernet
from nas.space.architecture import EncoderDecoder
from nas.space.sentence_pairs import BOS
from nas.space.task_shape import TextShape
from nas_kernels.testing import assert_close
from tests.model import cases
from tests.model.cases import randomised
from tests.model.translation_cases import (
    CROSSING,
    SELF,
    SHAPE,
    SHARED_WIDTHS,
    SPACES,
    batch,
    drawn,
    single,
    text_pairs,
)

SOURCES = [source for source, _ in text_pairs(((6, 1), (2, 1), (4, 1), (1, 1)))]
# The shortest source allows no more tokens than these.
STEPS = 4
BEAM = 3
SITES = [
    *({"encoder": each} for each in SELF),
    *({"decoder": each} for each in SELF),
    *({"cross": each, "span": span} for each in CROSSING for span in (1, 2, 3)),
]


def padded(sources: list[list[int]]) -> tuple[Tensor, Tensor]:
    """(B, S) and (B,)."""
    pairs = batch([(source, [BOS]) for source in sources])
    return pairs.source, pairs.source_lengths


def recomputed(network: Any, sources: list[list[int]], written: list[list[int]]) -> Tensor:
    """(B W, V): what follows each hypothesis, read as a whole, sentence by sentence."""
    width = len(written) // len(sources)
    pairs = [(sources[row // width], tokens) for row, tokens in enumerate(written)]
    with torch.no_grad():
        found: Tensor = network(batch(pairs))
    return found[torch.tensor([len(tokens) for tokens in written]).cumsum(0) - 1]


def walk(decoding: Decoding, network: Any, bound: float = 1e-5) -> None:
    """Writes with beams, permutes them, drops sentences, and compares at every step."""
    generator = torch.Generator().manual_seed(0)
    sources = list(SOURCES)
    memory = decoding.start(*padded(sources))
    # One hypothesis a sentence at first, then several.
    tokens = torch.full((len(sources),), BOS)
    written = [[BOS] for _ in sources]
    for position in range(STEPS):
        scores, memory = decoding.step(memory, tokens, position)
        assert_close(f"step {position}", scores, recomputed(network, sources, written), bound)
        width = 1 if position == 0 else BEAM
        kept = [[0, 1, 2, 3], [3, 0, 2], [2, 0], [0, 1]][position]
        rows = torch.cat(
            [each * width + torch.randint(width, (BEAM,), generator=generator) for each in kept]
        )
        sentences = torch.tensor(kept) if position else None
        memory = decoding.reorder(memory, rows, sentences)
        tokens = torch.randint(4, 13, (len(rows),), generator=generator)
        sources = [sources[each] for each in kept]
        added = zip(rows.tolist(), tokens.tolist(), strict=True)
        written = [[*written[row], token] for row, token in added]


class TestAgainstTheWhole:
    @pytest.mark.parametrize("chosen", SITES, ids=str)
    def test_every_type_at_every_site(self, chosen: dict[str, Any]) -> None:
        network = randomised(StandaloneNetwork(single(**chosen), SHAPE)).eval()
        walk(network.decoding(), network)

    @pytest.mark.parametrize(
        "chosen",
        [
            {"position": "none"},
            {"embeddings": "tied"},
            {"embeddings": "separate", "norm": "rmsnorm", "activation": "gelu"},
            {"cross": "cosformer", "decoder": "cosformer", "encoder": "cosformer", "span": 16},
        ],
        ids=str,
    )
    def test_other_choices(self, chosen: dict[str, Any]) -> None:
        network = randomised(StandaloneNetwork(single(**chosen), SHAPE)).eval()
        walk(network.decoding(), network)

    @pytest.mark.parametrize("name", SPACES)
    def test_any_choices_together(self, name: str) -> None:
        for architecture in drawn(SPACES[name], 6):
            network = randomised(StandaloneNetwork(architecture, SHAPE)).eval().double()
            walk(network.decoding(), network, 1e-12)

    def test_the_slice_of_a_supernet(self) -> None:
        supernet = randomised(Supernet(SHARED_WIDTHS, SHAPE)).eval()
        for architecture in drawn(SHARED_WIDTHS, 3):
            network = supernet.extract(architecture)
            walk(Decoding(supernet, architecture, SHAPE), network)

    def test_greedy_to_the_last_token(self) -> None:
        # Every sentence to its own end, alone.
        network = randomised(
            StandaloneNetwork(single("cosformer", "cosformer", "cosformer"), SHAPE)
        )
        decoding = network.eval().decoding()
        for source in SOURCES:
            memory, written = decoding.start(*padded([source])), [BOS]
            for position in range(int(decoding.longest(torch.tensor([len(source)])))):
                scores, memory = decoding.step(memory, torch.tensor(written[-1:]), position)
                assert_close("scores", scores, recomputed(network, [source], [written]), 1e-5)
                written.append(int(scores.argmax()))

    def test_a_sentence_alone_is_written_as_in_a_batch(self) -> None:
        network = randomised(StandaloneNetwork(single("linear", "softmax", "cosformer", 2), SHAPE))
        decoding = network.eval().double().decoding()
        first = torch.full((len(SOURCES),), BOS)
        together, _ = decoding.step(decoding.start(*padded(SOURCES)), first, 0)
        for index, source in enumerate(SOURCES):
            alone, _ = decoding.step(decoding.start(*padded([source])), first[:1], 0)
            assert_close("scores", alone, together[index : index + 1], 1e-12)


def sizes(architecture: EncoderDecoder) -> list[list[int]]:
    """Numbers that each layer remembers of the target, after each token."""
    shape = replace(SHAPE, length_margin=20)
    decoding = StandaloneNetwork(architecture, shape).eval().decoding()
    memory: IncrementalState = decoding.start(*padded(SOURCES))
    found = []
    for position in range(8):
        _, memory = decoding.step(memory, torch.full((len(SOURCES),), 5), position)
        found.append([sum(each.numel() for each in state or ()) for state in memory.target])
    return found


class TestState:
    @pytest.mark.parametrize("kind", ["cosformer", "linear"])
    def test_that_of_linear_attention_does_not_grow(self, kind: str) -> None:
        features = {"cosformer": 8, "linear": 4}[kind]
        # 4 sentences, 2 heads: the features' sums of values and their own.
        assert sizes(single(decoder=kind)) == [[4 * 2 * features * (4 + 1)] * 2] * 8

    def test_that_of_softmax_grows_by_a_key_and_a_value(self) -> None:
        found = sizes(single(decoder="softmax"))
        assert [b[0] - a[0] for a, b in pairwise(found)] == [2 * 4 * 2 * 4] * 7

    def test_a_source_is_remembered_once_a_sentence(self) -> None:
        network = StandaloneNetwork(single(cross="softmax", span=2), SHAPE).eval()
        decoding = network.decoding()
        memory = decoding.start(*padded(SOURCES))
        _, memory = decoding.step(memory, torch.zeros(4, dtype=torch.int64), 0)
        memory = decoding.reorder(memory, torch.arange(4).repeat_interleave(BEAM), None)
        _, memory = decoding.step(memory, torch.zeros(12, dtype=torch.int64), 1)
        # Keys of two encoder layers for six tokens, by 3 heads of 5.
        assert {tuple(each.shape) for layer in memory.crossed for each in layer} == {(4, 3, 12, 5)}
        fewer = decoding.reorder(memory, torch.arange(3, 9), torch.tensor([1, 2]))
        assert {len(each) for layer in fewer.crossed for each in layer} == {2}
        assert {len(each) for layer in fewer.target for each in layer or ()} == {6}
        assert fewer.source.lengths.tolist() == [2, 4]

    def test_what_is_given_is_left_as_it_was(self) -> None:
        network = randomised(StandaloneNetwork(single("linear", "cosformer", "linear"), SHAPE))
        decoding = network.eval().decoding()
        first = torch.full((len(SOURCES),), BOS)
        _, memory = decoding.step(decoding.start(*padded(SOURCES)), first, 0)
        kept = [each.clone() for state in memory.target for each in state or ()]
        one, _ = decoding.step(memory, first + 5, 1)
        decoding.reorder(memory, torch.tensor([1, 0]), torch.tensor([1, 0]))
        again, _ = decoding.step(memory, first + 5, 1)
        assert torch.equal(one, again)
        now = [each for state in memory.target for each in state or ()]
        assert all(map(torch.equal, kept, now))


class TestDecoding:
    def test_the_longest_target(self) -> None:
        shape = TextShape(9, 9, length_ratio=1.5, length_margin=10)
        assert longest_target(torch.tensor([1, 2, 3, 30]), shape).tolist() == [12, 13, 15, 55]
        decoding = StandaloneNetwork(single(), SHAPE).decoding()
        assert decoding.longest(torch.tensor([1, 4, 6])).tolist() == [4, 7, 10]

    def test_no_graph_is_kept(self) -> None:
        decoding = StandaloneNetwork(single(), SHAPE).decoding()
        memory = decoding.start(*padded(SOURCES))
        scores, memory = decoding.step(memory, torch.zeros(4, dtype=torch.int64), 0)
        assert not scores.requires_grad
        assert not any(each.requires_grad for state in memory.target for each in state or ())

    def test_an_image_network_translates_nothing(self) -> None:
        images = cases.EVERY_CHOICE.extreme("smallest")
        with pytest.raises(SpecError, match="a network of kind encoder translates nothing"):
            StandaloneNetwork(images, cases.SHAPE).decoding()

    def test_dropout_has_no_part_in_it(self) -> None:
        network = randomised(StandaloneNetwork(single(), SHAPE)).eval()
        want = network.decoding()
        first = torch.full((len(SOURCES),), BOS)
        scores, _ = want.step(want.start(*padded(SOURCES)), first, 0)
        network.train().dropout = 0.5
        found = network.decoding()
        assert torch.equal(found.step(found.start(*padded(SOURCES)), first, 0)[0], scores)
