"""What does a translation search cost? Steps, batches, tokenising and decoding, by its bars.

Bars: a supernet's single-path step <= 1.03 x a plain static transformer's of the same size; padding
<= 10% of tokens; tokenising and binarising >= 500,000 sentence pairs a minute on two cores;
incremental beam decoding >= 3 x faster than recomputation at 64 target tokens; the state of a
cosFormer decoder does not grow with length.
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.measuring.options import whole
from benchmarks.measuring.pairs import Paired, compare
from benchmarks.measuring.plain_transformer import PlainTransformer
from benchmarks.measuring.report import machine, parser, print_table, write
from benchmarks.measuring.text import random_pairs
from benchmarks.supernet_step import update
from nas import catalog
from nas.model.beam_search import write_on
from nas.model.decoding import Decoding, IncrementalState
from nas.model.network import StandaloneNetwork
from nas.model.supernet import Supernet
from nas.operators.declaration import Choice
from nas.space.architecture import EncoderDecoder
from nas.space.loader import load_space
from nas.space.sentence_pairs import SentencePairs
from nas.space.task_shape import TextShape
from nas.task.length_buckets import LengthBuckets
from nas.task.parallel_text import ParallelFiles
from nas.task.subwords import Subwords, learn
from nas.task.task import data_root
from nas.task.text_data import TextData
from nas.task.token_store import stored

STEP_BAR, PADDING_BAR, PAIRS_BAR, DECODING_BAR = 1.03, 0.10, 500_000, 3.0
TOKENS, SOURCE, TARGET, SENTENCES, BEAM = 2000, 30, 64, 8, 4
SHAPE = TextShape(10_000, 10_000, length_ratio=2.0, length_margin=TARGET)
CORPORA = ("multi30k_en_de", "wmt14_en_de")


def of_one_type(space: str, attention: str) -> EncoderDecoder:
    """The space's largest network of one attention type that looks at one encoder layer alone.

    So a plain transformer does: looking at three takes keys and values of three times the source.
    """
    largest = cast(EncoderDecoder, load_space(space).extreme("largest", Choice(attention)))
    plain = tuple(dataclasses.replace(each, cross_span=1) for each in largest.decoder_layers)
    return dataclasses.replace(largest, decoder_layers=plain)


def step(space: str, count: int) -> Paired:
    """A single-path step of a space's supernet against the plain transformer's, softmax in both."""
    architecture = of_one_type(space, "softmax")
    pairs = random_pairs(SHAPE, TOKENS // 25, 25, 25)
    labels = torch.randint(4, SHAPE.target_vocabulary, (len(pairs.kept),))
    supernet, plain = Supernet(load_space(space), SHAPE), PlainTransformer(architecture, SHAPE)

    def ours(_: int) -> Iterator[Tensor]:
        yield functional.cross_entropy(supernet(pairs, architecture), labels, label_smoothing=0.1)

    def theirs(_: int) -> Iterator[Tensor]:
        scores = plain(pairs).flatten(0, 1)
        yield functional.cross_entropy(scores, labels, label_smoothing=0.1)

    return compare(update(supernet, ours), update(plain, theirs), count)


def padding(corpus: str) -> float:
    """The share of padding among the tokens of an epoch, both sides together."""
    task = catalog.TASKS.load(corpus)
    data: TextData = task.load(task.options_model(), data_root())
    source, target = data.train.source_tokens, data.train.target_tokens
    padded = 0
    for batch in LengthBuckets.of(source, target, TOKENS, 0).once():
        padded += len(batch) * int(source[batch].max() + target[batch].max())
    return 1 - int(source.sum() + target.sum()) / padded


def tokenising(corpus: str) -> float:
    """Sentence pairs a minute, from files of text to arrays on disk; pieces are learnt before."""
    files = ParallelFiles.of(data_root() / corpus, "train", "en", "de")
    english, german = next(files.chunks())
    subwords: Subwords = learn(english + german, 4_000)
    before = os.environ.get("NAS_CACHE_DIR")
    with tempfile.TemporaryDirectory() as home:
        os.environ["NAS_CACHE_DIR"] = home
        start = time.perf_counter()
        store = stored("benchmark", subwords, files.chunks())
        seconds = time.perf_counter() - start
        pairs = len(store.source)
        os.environ.pop("NAS_CACHE_DIR")
        if before is not None:
            os.environ["NAS_CACHE_DIR"] = before
    return 60 * pairs / seconds


class Recomputing(Decoding):
    """A decoder that remembers nothing: it reads every hypothesis whole at every token."""

    def start(self, source: Tensor, source_lengths: Tensor) -> Any:
        self._memory = self.subnet.encode(source, source_lengths)
        return torch.empty(len(source), 0, dtype=torch.int64)

    def step(self, memory: Any, tokens: Tensor, position: int) -> tuple[Tensor, Any]:
        written = torch.cat([memory, tokens[:, None]], dim=1)
        rows = len(tokens) // len(self._memory.lengths)
        seen = {n: each.repeat_interleave(rows, 0) for n, each in self._memory.by_span.items()}
        lengths, longest = (
            each.repeat_interleave(rows) for each in (self._memory.lengths, self._memory.longest)
        )
        count = torch.full((len(tokens),), position + 1)
        pairs = SentencePairs(None, None, written, count, None)
        hidden = self.subnet.decode(pairs, type(self._memory)(seen, lengths, longest))
        return self.subnet.scores(hidden[:, -1]), written

    def reorder(self, memory: Any, hypotheses: Tensor, sentences: Any) -> Any:
        assert sentences is None, "no sentence ends before the last token"
        return memory.index_select(0, hypotheses)


def decoding(architecture: EncoderDecoder, count: int) -> Paired:
    """Recomputed against incremental: `TARGET` tokens by beam search, nothing ends before."""
    network = StandaloneNetwork(architecture, SHAPE).eval()
    pairs = random_pairs(SHAPE, SENTENCES, SOURCE, TARGET)
    source, lengths = pairs.source, pairs.source_lengths

    def written(decoder: Decoding) -> Callable[[int], None]:
        return lambda _: write_on(
            decoder,
            decoder.start(source, lengths),
            SENTENCES,
            beam=BEAM,
            tokens=TARGET,
            like=source,
        )

    decoders = Recomputing(network, architecture, SHAPE), Decoding(network, architecture, SHAPE)
    recomputed, incremental = map(written, decoders)
    with torch.inference_mode():
        return compare(recomputed, incremental, count, warm_up=1)


def state_bytes(attention: str, lengths: Sequence[int]) -> list[int]:
    """Bytes that the decoder's own attention remembers of one sentence after so many tokens."""
    architecture = of_one_type("multi30k_small", attention)
    decoder = Decoding(StandaloneNetwork(architecture, SHAPE).eval(), architecture, SHAPE)
    memory: IncrementalState = decoder.start(torch.full((1, SOURCE), 4), torch.tensor([SOURCE]))
    found = []
    for position in range(max(lengths)):
        _, memory = decoder.step(memory, torch.tensor([4]), position)
        held = sum(t.nbytes for state in memory.target for t in state or ())
        found += [held] * ((position + 1) in lengths)
    return found


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--pairs", type=whole(2), default=10, help="timed pairs of each kind")
    arguments.add_argument("--space", default="wmt14_en_de", help="the space of the steps")
    arguments.add_argument("--threads", type=whole(1), default=2)
    given = arguments.parse_args()
    torch.set_num_threads(given.threads)
    rows, figures = [], {"machine": machine()}

    def enter(name: str, value: float, bar: str, met: bool, detail: Any) -> None:
        rows.append((name, f"{value:,.3g}", bar, "met" if met else "MISSED"))
        figures[name] = {"value": value, "bar": bar, "met": met, "detail": detail}

    for corpus in CORPORA:
        share = padding(corpus)
        enter(f"padding, {corpus}", share, f"<= {PADDING_BAR}", share <= PADDING_BAR, None)
    rate = tokenising("wmt14_en_de")
    enter("pairs a minute", rate, f">= {PAIRS_BAR:,}", rate >= PAIRS_BAR, None)
    for attention in ("softmax", "cosformer", "linear"):
        taken = decoding(of_one_type("multi30k_small", attention), given.pairs)
        met = taken.ratio >= DECODING_BAR
        enter(f"recomputed / incremental, {attention}", taken.ratio, ">= 3", met, taken.to_json())
        grown = state_bytes(attention, (8, 64))
        constant = grown[0] == grown[1]
        ratio = grown[1] / grown[0]
        enter(
            f"state at 64 / 8 tokens, {attention}",
            ratio,
            "none" if attention == "softmax" else "= 1",
            constant or attention == "softmax",
            grown,
        )
    taken = step(given.space, given.pairs)
    enter("supernet / plain step", taken.ratio, "<= 1.03", taken.ratio <= STEP_BAR, taken.to_json())
    print_table("Translation", ("what", "figure", "bar", ""), rows)
    write(given.out, figures)


if __name__ == "__main__":
    main()
