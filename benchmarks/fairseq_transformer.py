"""How fast are training and beam search beside fairseq's own transformer, of the same weights?

Needs fairseq: `.venv-fairseq/bin/python benchmarks/fairseq_transformer.py` after `make
test-fairseq`. Both networks have 6 + 6 pre-norm layers of width 512 over 10,000 shared pieces, and
one's weights are the other's: the script stops where their outputs differ.

Bars, ours over fairseq's: a training step <= 1.0 in float32, and <= 0.6 with our products in
bfloat16; beam search <= 0.95 in float32, and <= 0.7 with our weights in bfloat16. fairseq computes
in float32 throughout. With `--weights` (of `benchmarks/learning.py --keep`) both translate the test
set of Multi30k as well, and their BLEU stands side by side.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from fairseq import search
from fairseq.criterions.label_smoothed_cross_entropy import label_smoothed_nll_loss
from fairseq.data import Dictionary
from fairseq.models.transformer import TransformerModel, base_architecture
from fairseq.optim.adam import Adam
from fairseq.sequence_generator import SequenceGenerator
from fairseq.utils import clip_grad_norm_
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.measuring.options import whole
from benchmarks.measuring.pairs import Paired, compare
from benchmarks.measuring.report import machine, parser, print_table, write
from benchmarks.measuring.text import random_pairs, softmax_transformer
from benchmarks.supernet_step import update
from nas import catalog
from nas.model.beam_search import Hypothesis, translate_in_batches
from nas.model.encoder_decoder import positions
from nas.model.network import StandaloneNetwork
from nas.space.architecture import EncoderDecoder
from nas.space.sentence_pairs import BOS, SentencePairs
from nas.space.task_shape import TextShape
from nas.task.task import data_root
from nas.task.text_data import TextData
from nas.train.standalone import load_model

TOKENS, LENGTH, SENTENCES, BEAM = 2000, 25, 32, 4
DROPOUT, SMOOTHING = 0.1, 0.1
SHAPE = TextShape(10_000, 10_000, length_ratio=0.0, length_margin=40)
BASE = softmax_transformer((6, 6), width=512, heads=8, ffn_width=2048, head_width=64)
STEP_BARS, BEAM_BARS = (1.0, 0.6), (0.95, 0.7)


def fairseq_of(network: StandaloneNetwork) -> tuple[TransformerModel, Dictionary]:
    """fairseq's transformer with these weights; the position of the first token is 0 in both."""
    architecture, shape = network.architecture, network.shape
    assert isinstance(architecture, EncoderDecoder)
    assert isinstance(shape, TextShape)
    words = Dictionary()
    for number in range(shape.target_vocabulary - len(words)):
        words.add_symbol(f"w{number}")
    model = TransformerModel.build_model(
        _arguments(architecture), Namespace(source_dictionary=words, target_dictionary=words)
    )
    given = dict(network.state_dict())
    taken: dict[str, Tensor] = {}
    for stack, norm in (("encoder", "encoder_norm"), ("decoder", "decoder_norm")):
        # Without it, fairseq takes the weights for those of a release without a last norm.
        taken[f"{stack}.version"] = torch.tensor([3.0])
        taken[f"{stack}.embed_tokens.weight"] = given["outer.embedding.table"]
        taken |= _named(given, f"outer.{norm}.", f"{stack}.layer_norm.")
        for index in range(len(getattr(architecture, f"{stack}_layers"))):
            taken |= _layer(given, f"{stack}.layers.{index}.", f"{stack}.layers.{index}.")
    taken["decoder.output_projection.weight"] = given["outer.embedding.table"]
    missing, unexpected = model.load_state_dict(taken, strict=False)
    assert not unexpected, unexpected
    assert not missing, missing
    for side in (model.encoder, model.decoder):
        # Its table starts behind the padding's id and has sines before cosines.
        places = positions(0, 1024, architecture.encoder_width, torch.empty(0))
        side.embed_positions.weights = torch.cat([torch.zeros(2, places.shape[1]), places])
    return model, words


def _arguments(architecture: EncoderDecoder) -> Namespace:
    first = architecture.encoder_layers[0]
    sizes: dict[str, Any] = {}
    for side in ("encoder", "decoder"):
        sizes |= {
            f"{side}_layers": len(getattr(architecture, f"{side}_layers")),
            f"{side}_embed_dim": architecture.encoder_width,
            f"{side}_ffn_embed_dim": first.ffn_width,
            f"{side}_attention_heads": first.heads,
            f"{side}_normalize_before": True,
        }
    found = Namespace(
        **sizes, dropout=DROPOUT, share_all_embeddings=True, max_source_positions=1024,
        max_target_positions=1024,
    )  # fmt: skip
    base_architecture(found)
    return found


def _named(given: dict[str, Tensor], ours: str, theirs: str) -> dict[str, Tensor]:
    return {f"{theirs}{name}": given[f"{ours}{name}"] for name in ("weight", "bias")}


def _layer(given: dict[str, Tensor], ours: str, theirs: str) -> dict[str, Tensor]:
    """One layer's tensors by fairseq's names."""
    parts = {"attention": ("self_attn", "self_attn_layer_norm")}
    if f"{ours}cross_attention.q_weight" in given:
        parts["cross_attention"] = ("encoder_attn", "encoder_attn_layer_norm")
    found = _named(given, f"{ours}ffn_norm.", f"{theirs}final_layer_norm.")
    for part, (attention, norm) in parts.items():
        found |= _named(given, f"{ours}{part}_norm.", f"{theirs}{norm}.")
        for role, name in (("q", "q_proj"), ("k", "k_proj"), ("v", "v_proj"), ("o", "out_proj")):
            weight, bias = (given[f"{ours}{part}.{role}_{kind}"] for kind in ("weight", "bias"))
            joined = weight.flatten(1) if role == "o" else weight.flatten(0, 1)
            found[f"{theirs}{attention}.{name}.weight"] = joined
            found[f"{theirs}{attention}.{name}.bias"] = bias.flatten()
    for name, layer in (("in", "fc1"), ("out", "fc2")):
        for kind in ("weight", "bias"):
            found[f"{theirs}{layer}.{kind}"] = given[f"{ours}ffn.{name}_{kind}"]
    return found


# -- training --------------------------------------------------------------------------------------


def step(precision: torch.dtype, count: int) -> Paired:
    """Our step over fairseq's: forward, smoothed loss, backward, clipping, Adam."""
    network = StandaloneNetwork(BASE, SHAPE)
    model, _ = fairseq_of(network)
    pairs = random_pairs(SHAPE, TOKENS // LENGTH, LENGTH, LENGTH)
    labels = torch.randint(4, SHAPE.target_vocabulary, (len(pairs.kept),))
    _check_alike(network, model, pairs)
    network.dropout = DROPOUT

    def ours(_: int) -> Iterator[Tensor]:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
            scores = network(pairs)
        yield functional.cross_entropy(scores.float(), labels, label_smoothing=SMOOTHING)

    return compare(update(network.train(), ours), _their_step(model.train(), pairs, labels), count)


def _check_alike(network: StandaloneNetwork, model: nn.Module, pairs: SentencePairs) -> None:
    # Not in inference mode: fairseq keeps the mask that it makes here for its training.
    with torch.no_grad():
        theirs = model.eval()(pairs.source, pairs.source_lengths, pairs.target)[0].flatten(0, 1)
        torch.testing.assert_close(network.eval()(pairs), theirs, rtol=1e-4, atol=1e-4)


def _their_step(model: Any, pairs: SentencePairs, labels: Tensor) -> Callable[[int], object]:
    """As fairseq's trainer does it with label_smoothed_cross_entropy and its own Adam."""
    parameters = [each for each in model.parameters() if each.requires_grad]
    optimizer = Adam(parameters, lr=1e-4)

    def run(_: int) -> None:
        scores = model(pairs.source, pairs.source_lengths, pairs.target)
        log_probabilities = model.get_normalized_probs(scores, log_probs=True).flatten(0, 1)
        loss, _ = label_smoothed_nll_loss(log_probabilities, labels, SMOOTHING, ignore_index=1)
        (loss / len(labels)).backward()
        clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return run


# -- beam search -----------------------------------------------------------------------------------


def generator_of(model: nn.Module, words: Dictionary, shape: TextShape, penalty: float) -> Any:
    """fairseq's beam search by our rules: BOS is not written, the longest counts the end mark."""
    return SequenceGenerator(
        [model.eval()],
        words,
        beam_size=BEAM,
        max_len_a=shape.length_ratio,
        max_len_b=shape.length_margin - 1,
        len_penalty=penalty,
        search_strategy=search.BeamSearch(words),
        tokens_to_suppress=("<s>",),
    )


def their_translations(generator: Any, source: Tensor, lengths: Tensor) -> list[tuple[int, ...]]:
    """The best translation of each sentence (B, S), without its end mark."""
    sample = {"net_input": {"src_tokens": source, "src_lengths": lengths}}
    found = generator.generate([], sample, bos_token=BOS)
    return [tuple(best[0]["tokens"].tolist())[:-1] for best in found]


def beam(dtype: torch.dtype, count: int) -> Paired:
    """Our beam search over fairseq's, every translation as long as allowed: weights are random."""
    network = StandaloneNetwork(BASE, SHAPE).eval()
    model, words = fairseq_of(network)
    pairs = random_pairs(SHAPE, SENTENCES, LENGTH, LENGTH)
    _check_alike(network, model, pairs)
    network.to(dtype)
    sentences = [row[:-1] for row in pairs.source.tolist()]
    decoder, generator = network.decoding(), generator_of(model, words, SHAPE, 1.0)
    tokens = SENTENCES * LENGTH

    def ours(_: int) -> list[list[Hypothesis]]:
        return translate_in_batches(
            decoder, sentences, batch_tokens=tokens, beam=BEAM, length_penalty=1.0
        )

    def theirs(_: int) -> list[tuple[int, ...]]:
        return their_translations(generator, pairs.source, pairs.source_lengths)

    with torch.inference_mode():
        # As many steps on both sides: one that ended before would have had less to do.
        written = {len(best[0].tokens) for best in ours(0)} | set(map(len, theirs(0)))
        assert written == {SHAPE.length_margin - 1}, written
        return compare(ours, theirs, count, warm_up=1)


def test_set(weights: Path, dtype: torch.dtype, batch_tokens: int) -> dict[str, Any]:
    """Both translate Multi30k's test set, in turns batch by batch of one length; BLEU of both."""
    given = load_model(weights)
    task = catalog.TASKS.load(given.task.name)
    data: TextData = task.load(given.task.configured(catalog.TASKS, "task"), data_root())
    model, words = fairseq_of(given.network)
    network, shape = given.network.to(dtype).eval(), given.network.shape
    assert isinstance(shape, TextShape)
    decoder, generator = network.decoding(), generator_of(model, words, shape, 0.6)
    test = data.test()
    lengths = test.source_tokens
    texts: dict[str, dict[int, str]] = {"ours": {}, "fairseq": {}}
    seconds = {"ours": 0.0, "fairseq": 0.0}
    with torch.inference_mode():
        for length in sorted(set(lengths.tolist())):
            (chosen,) = (lengths == length).nonzero()
            for start in range(0, len(chosen), max(1, batch_tokens // length)):
                part = chosen[start : start + max(1, batch_tokens // length)]
                inputs = test.batch(part, "cpu").inputs
                sources = [row[:-1] for row in inputs.source.tolist()]
                begun = perf_counter()
                found = translate_in_batches(
                    decoder, sources, batch_tokens=batch_tokens, beam=BEAM, length_penalty=0.6
                )
                between = perf_counter()
                other = their_translations(generator, inputs.source, inputs.source_lengths)
                seconds["ours"] += between - begun
                seconds["fairseq"] += perf_counter() - between
                for place, best, tokens in zip(part.tolist(), found, other, strict=True):
                    texts["ours"][place] = data.decode(best[0].tokens)
                    texts["fairseq"][place] = data.decode(tokens)
    references = data.references(test)
    written = {who: [each[n] for n in range(len(test))] for who, each in texts.items()}
    same = sum(map(str.__eq__, *written.values())) / len(test)
    bleu = {who: task.judged(each, references)[0]["bleu"] for who, each in written.items()}
    return {"seconds": seconds, "bleu": bleu, "same": same}


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--pairs", type=whole(2), default=8, help="timed pairs of each kind")
    arguments.add_argument("--threads", type=whole(1), default=2)
    arguments.add_argument("--weights", type=Path, help="of learning.py, to translate Multi30k")
    given = arguments.parse_args()
    torch.set_num_threads(given.threads)
    rows, figures = [], {"machine": machine()}

    def enter(name: str, taken: Paired, bar: float) -> None:
        met = taken.ratio <= bar
        spread = f"{taken.ratio:.3f} ({taken.lower_quartile:.3f} to {taken.upper_quartile:.3f})"
        rows.append((name, spread, f"<= {bar}", "met" if met else "MISSED"))
        figures[name] = {**taken.to_json(), "bar": bar, "met": met}

    formats = (torch.float32, torch.bfloat16)
    for dtype, bar in zip(formats, STEP_BARS, strict=True):
        enter(f"step, ours in {dtype}", step(dtype, given.pairs), bar)
    for dtype, bar in zip(formats, BEAM_BARS, strict=True):
        enter(f"beam search, ours in {dtype}", beam(dtype, given.pairs), bar)
    print_table("Beside fairseq", ("what", "ours / fairseq", "bar", ""), rows)
    if given.weights is not None:
        for dtype in formats:
            found = test_set(given.weights, dtype, SENTENCES * LENGTH)
            figures[f"Multi30k's test, ours in {dtype}"] = found
            print(f"Multi30k's test, ours in {dtype}: {found}")
    write(given.out, figures)


if __name__ == "__main__":
    main()
