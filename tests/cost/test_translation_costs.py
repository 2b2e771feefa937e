"""Costs of translation networks: as counted, as tensors take, as published, and as measured."""

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from nas.cli.app import run
from nas.cost.analytic import (
    ACTIVATION_BYTES,
    FLOPS,
    PARAMS,
    AnalyticCost,
    by_site,
    flops_by_group,
    hat_convention,
)
from nas.cost.counts import costs
from nas.cost.latency import measure
from nas.errors import SpecError
from nas.model.network import StandaloneNetwork
from nas.search.workload import Workload
from nas.space.architecture import EncoderDecoder
from nas.space.blueprint import blueprint
from nas.space.gene import End
from nas.space.search_space import SearchSpace
from nas.space.sentence_pairs import SentencePairs
from nas.space.task_shape import ImageShape, TextShape
from nas.task.text_task import TextOptions
from nas.task.translation import WMT14_EN_DE
from tests.model.translation_cases import CROSSING, EVERY_CHOICE, SHARED_WIDTHS, drawn, single
from tests.operators.conformance import bytes_an_image
from tests.space.test_encoder_decoder import HAT, SMALL, SPACES

SHAPE = TextShape(50, 50, source_length=20, target_length=12)
ANALYTIC = (PARAMS, FLOPS, ACTIVATION_BYTES)
EVERY_SPACE = (EVERY_CHOICE, SHARED_WIDTHS, *SPACES.values())
ENDS: tuple[End, End] = ("smallest", "largest")
WMT = TextShape(32_768, 32_768)


def whole(count: int, shape: TextShape, device: str = "cpu") -> SentencePairs:
    """A batch of sentences of the shape's lengths."""

    def ids(length: int) -> torch.Tensor:
        return torch.full((count, length), 5, device=device)

    def lengths(length: int) -> torch.Tensor:
        return torch.full((count,), length, device=device)

    source, target = shape.source_length, shape.target_length
    kept = torch.arange(count * target, device=device)
    return SentencePairs(ids(source), lengths(source), ids(target), lengths(target), kept)


def counted(architecture: EncoderDecoder, shape: TextShape) -> int:
    """FLOPs of one pair by torch, attention as matrix products."""
    network = StandaloneNetwork(architecture, shape).to("meta").eval()
    counter = FlopCounterMode(display=False)
    with torch.inference_mode(), counter, sdpa_kernel(SDPBackend.MATH):
        network(whole(1, shape, "meta"))
    return int(counter.get_total_flops())


def unseen(architecture: EncoderDecoder, shape: TextShape) -> int:
    """FLOPs that plain products spend on what a causal softmax never sees."""
    inner = sum(layer.heads * layer.head_width for layer in architecture.decoder_layers)
    return 2 * shape.target_length**2 * inner


COUNTED = [
    *(single(encoder=kind) for kind in [*CROSSING, "softmax_relpos"]),
    *(single(cross=kind, span=span) for kind in CROSSING for span in (1, 2, 16)),
    single(decoder={"type": "softmax_relpos", "max_distance": 4}),
    single(embeddings="tied", position="none"),
    single(embeddings="separate", norm="rmsnorm"),
]


class TestCounted:
    @pytest.mark.parametrize("architecture", COUNTED, ids=lambda each: each.id)
    def test_flops_are_what_torch_counts(self, architecture: EncoderDecoder) -> None:
        found = costs(architecture, SHAPE).flops + unseen(architecture, SHAPE)
        assert found == pytest.approx(counted(architecture, SHAPE), rel=1e-3)

    @pytest.mark.parametrize("space", EVERY_SPACE, ids=lambda each: each.name)
    def test_of_any_dimensions(self, space: SearchSpace) -> None:
        for architecture in drawn(space, 8 if space in (EVERY_CHOICE, SHARED_WIDTHS) else 2):
            # Causal sums are made by chunks, whose products are no part of the convention.
            own = "softmax"
            layers = [
                replace(layer, attention=single(decoder=own).decoder_layers[0].attention)
                for layer in architecture.decoder_layers
            ]
            plain = replace(architecture, decoder_layers=tuple(layers))
            found = costs(plain, SHAPE).flops + unseen(plain, SHAPE)
            assert found == pytest.approx(counted(plain, SHAPE), rel=1e-3)

    @pytest.mark.parametrize("space", [EVERY_CHOICE, SHARED_WIDTHS], ids=lambda each: each.name)
    def test_parameters_are_counted_exactly(self, space: SearchSpace) -> None:
        for architecture in drawn(space, 20):
            with torch.device("meta"):
                network = StandaloneNetwork(architecture, SHAPE)
            found = sum(each.numel() for each in network.parameters())
            assert costs(architecture, SHAPE).params == found

    def test_by_hand(self) -> None:
        # Three layers of width 6 for 20 tokens; two of width 8 for 12; 2 heads of 4, 3 of 5.
        found = single(decoder="cosformer", span=2)
        projections = 3 * 4 * 20 * 6 * 8 + 2 * 4 * 12 * 8 * 8
        projections += 2 * 2 * 15 * (12 * 8 + 2 * 20 * 6)
        # Softmax of pairs; cosFormer's sums over keys, read with their normaliser.
        attention = 3 * 2 * 20 * 20 * 8 + 2 * 2 * 12 * 40 * 15
        attention += 2 * 2 * (12 * 8 * 4 + 12 * 8 * 5)
        assert flops_by_group(found, SHAPE) == {
            "embedding": 0,
            "projections": 2 * projections,
            "attention": 2 * attention,
            "ffn": 2 * (3 * 2 * 20 * 6 * 9 + 2 * 2 * 12 * 8 * 9),
            "head": 2 * 12 * 8 * 50,
        }
        encoder = 4 * 6 * 8 + 3 * 8 + 6 + (2 * 6 * 9 + 9 + 6) + 4 * 6
        decoder = 4 * 8 * 8 + 3 * 8 + 8 + (2 * 8 * 9 + 9 + 8) + 6 * 8
        decoder += 15 * (8 + 6 + 6 + 8) + 3 * 15 + 8
        assert costs(found, SHAPE).params == 3 * encoder + 2 * decoder + 50 * 8 + 2 * 6 + 2 * 8

    def test_sites_add_up(self) -> None:
        for architecture in drawn(EVERY_CHOICE, 10):
            found = by_site(architecture, SHAPE)
            groups = flops_by_group(architecture, SHAPE)
            flops = sum(each["flops"] for each in found.values())
            assert flops == groups["projections"] + groups["attention"]
            parts = [part for part in blueprint(architecture, SHAPE) if part.site]
            assert {part.site for part in parts} == set(found)
            params = sum(each["params"] for each in found.values())
            assert params == sum(part.params for part in parts)
            own = [part for part in parts if "cross_attention" in part.path]
            assert found["cross"]["params"] == sum(part.params for part in own)

    def test_a_task_of_images_is_refused(self) -> None:
        images = ImageShape(8, 3, 10)
        with pytest.raises(SpecError, match="encoder_decoder given; the task gives images"):
            costs(single(), images)
        with pytest.raises(SpecError, match="hat counts translation networks; the task gives im"):
            hat_convention(single(), images)


# What the decoder looks at is the most of it.
WIDE_MEMORY = replace(single(span=3), encoder_width=64)


@pytest.mark.parametrize("lengths", [(30, 30), (20, 40), (40, 20)], ids=str)
@pytest.mark.parametrize(
    "space", [EVERY_CHOICE, SPACES["multi30k_small"]], ids=lambda each: each.name
)
def test_activation_bytes_are_within_a_quarter_of_what_tensors_take(
    space: SearchSpace, lengths: tuple[int, int]
) -> None:
    for vocabulary, seed in ((13, 0), (300, 1)):
        shape = TextShape(vocabulary, vocabulary, *lengths)
        for architecture in (*drawn(space, 3, seed), WIDE_MEMORY):
            declared = costs(architecture, shape).activation_bytes
            assert 1 / 1.25 <= declared / taken(architecture, shape) <= 1.25


def taken(architecture: EncoderDecoder, shape: TextShape) -> float:
    """Bytes that each further pair of a batch takes at the peak."""
    made = {count: whole(count, shape, "meta") for count in (64, 128)}
    with torch.device("meta"):
        network = StandaloneNetwork(architecture, shape).eval()
    return bytes_an_image(lambda count: network(made[count]), list(network.parameters()))


# -- bounds ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("cost", ANALYTIC, ids=lambda cost: cost.metric.name)
class TestBounds:
    def test_they_are_those_of_the_enumeration(self, cost: AnalyticCost) -> None:
        every = [cost.of(each, SHAPE) for each in SMALL.enumerate()]
        assert [cost.bound(SMALL, SHAPE, end) for end in ENDS] == [min(every), max(every)]

    @pytest.mark.parametrize("name", ["hat_wmt14_en_de", "numbers_tiny", "wmt14_en_de"])
    def test_no_architecture_of_a_shipped_space_lies_beyond(
        self, cost: AnalyticCost, name: str
    ) -> None:
        space, rng = SPACES[name], random.Random(0)
        low, high = (cost.bound(space, WMT, end) for end in ENDS)
        ends = [space.extreme(end, each) for end in ENDS for each in space.all_attentions]
        drawn = [space.sample(rng) for _ in range(30)]
        found = [cost.of(each, WMT) for each in (*drawn, *ends)]
        assert low <= min(found) < max(found) <= high


# -- as published ----------------------------------------------------------------------------------

# Millions of parameters and billions of FLOPs (Wang et al., HAT, ACL 2020, and its public code).
PUBLISHED = ((30.47, 1.87), (35.72, 2.19), (40.97, 2.54), (51.20, 3.17), (49.38, 3.09))


class TestHat:
    @pytest.mark.parametrize(("architecture", "figures"), [*zip(HAT, PUBLISHED, strict=True)])
    def test_its_networks_cost_what_it_says(
        self, architecture: EncoderDecoder, figures: tuple[float, float]
    ) -> None:
        # Whatever the task's own lengths and vocabulary.
        for shape in (WMT, TextShape(100, 100, 7, 50)):
            found = hat_convention(architecture, shape)
            assert found.params / 1e6 == pytest.approx(figures[0], rel=0.001)
            assert found.flops / 1e9 == pytest.approx(figures[1], rel=0.005)

    @pytest.mark.parametrize(("architecture", "figures"), [*zip(HAT, PUBLISHED, strict=True)])
    def test_the_command_says_so(
        self,
        architecture: EncoderDecoder,
        figures: tuple[float, float],
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        path = tmp_path / "hat.json"
        path.write_text(json.dumps(architecture.to_json()))
        asked = ["cost", str(path), "--task", "wmt14_en_de", "--json"]
        shown = said([*asked, "--convention", "hat"], capsys)
        assert shown["convention"] == "hat"
        assert shown["params"] / 1e6 == pytest.approx(figures[0], rel=0.001)
        assert shown["flops"] / 1e9 == pytest.approx(figures[1], rel=0.005)
        # What is not counted by that convention is not told beside it.
        assert set(shown) == {"id", "task", "convention", "params", "flops"}
        plain = said(asked, capsys)
        shape = WMT14_EN_DE.shape(TextOptions())
        assert plain["params"] == costs(architecture, shape).params > shown["params"]
        assert plain["by_site"] == by_site(architecture, shape)


def said(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> Any:
    """What a command prints, as JSON."""
    assert run(arguments) == 0
    return json.loads(capsys.readouterr().out)


# -- latency ---------------------------------------------------------------------------------------

SMALL_WORK: dict[str, Any] = {"warmup": 0, "source_length": 5, "target_length": 4, "beam": 2}


class TestLatency:
    def test_it_is_told_apart_by_encoder_and_decoder(self) -> None:
        network = StandaloneNetwork(single(), SHAPE)
        for repetitions in (1, 3):
            workload = Workload(batch=2, repetitions=repetitions, **SMALL_WORK)
            found = measure(network, SHAPE, workload)
            assert set(found.details) == {
                "latency_spread_ms",
                "latency_encoder_ms",
                "latency_decoder_ms",
            }
            parts = found.details["latency_encoder_ms"], found.details["latency_decoder_ms"]
            assert min(parts) > 0
            if repetitions == 1:
                assert sum(parts) == pytest.approx(found.value)

    def test_every_step_is_taken_with_all_hypotheses(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from nas.model.decoding import Decoding

        steps: list[tuple[int, int]] = []
        sources: list[tuple[int, ...]] = []
        step, start = Decoding.step, Decoding.start

        def stepped(self: Decoding, memory: Any, tokens: Any, position: int) -> Any:
            steps.append((len(tokens), position))
            return step(self, memory, tokens, position)

        def started(self: Decoding, source: Any, lengths: Any) -> Any:
            sources.append((*source.shape, *lengths.tolist()))
            return start(self, source, lengths)

        monkeypatch.setattr(Decoding, "step", stepped)
        monkeypatch.setattr(Decoding, "start", started)
        workload = Workload(batch=3, repetitions=2, **{**SMALL_WORK, "warmup": 1})
        measure(StandaloneNetwork(single(), SHAPE), SHAPE, workload)
        assert steps == [(3, 0), (6, 1), (6, 2), (6, 3)] * 3
        assert sources == [(3, 5, 5, 5, 5)] * 3

    def test_the_network_is_given_back_as_found(self) -> None:
        network = StandaloneNetwork(single(), SHAPE).train()
        before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        threads, state = torch.get_num_threads(), torch.get_rng_state()
        workload = Workload(dtype="bfloat16", repetitions=1, threads=threads + 1, **SMALL_WORK)
        measure(network, SHAPE, workload)
        assert network.training
        for name, tensor in network.state_dict().items():
            assert torch.equal(tensor, before[name])
            assert tensor.dtype == torch.float32
        assert torch.get_num_threads() == threads
        assert torch.equal(torch.get_rng_state(), state)
        assert not torch.is_inference_mode_enabled()

    def test_a_target_longer_than_may_be_written_is_refused(self) -> None:
        network = StandaloneNetwork(single(cross="cosformer", decoder="cosformer"), SHAPE)
        shape = replace(SHAPE, length_ratio=1.0, length_margin=2)
        bounded = StandaloneNetwork(network.architecture, shape)
        measure(bounded, shape, Workload(repetitions=1, **{**SMALL_WORK, "target_length": 7}))
        with pytest.raises(SpecError, match=r"^latency\.target_length: 8 given; .*5 tokens .* 7$"):
            measure(bounded, shape, Workload(repetitions=1, **{**SMALL_WORK, "target_length": 8}))

    def test_one_token_by_one_hypothesis(self) -> None:
        workload = Workload(warmup=0, repetitions=1, source_length=1, target_length=1, beam=1)
        assert measure(StandaloneNetwork(single(), SHAPE), SHAPE, workload).value > 0
