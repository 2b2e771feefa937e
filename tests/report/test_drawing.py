"""Does the page draw what the record holds: shares, colours, heights, and a point's text?"""

import json
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from nas.operators.declaration import Choice
from nas.report.architecture import (
    BLOCK,
    LOWEST,
    TALLEST,
    layer_lines,
    looks,
    marks,
    outline,
    share_efficient,
    strip,
)
from nas.report.frame import trials_table
from nas.report.front import figure, hover
from nas.report.page import page
from nas.report.summary import summarize
from nas.search.trial import Measurement, Trial
from nas.space.architecture import Architecture, Encoder, EncoderDecoder
from nas.space.layer import DecoderLayer, EncoderLayer
from tests.report.samples import COST, request, trial

FFN_WIDTHS = {"softmax": 96, "cosformer": 144, "linear": 192}
MIXED = Encoder(
    patch_size=2,
    width=48,
    layers=tuple(EncoderLayer(Choice(name), 2, 16, width) for name, width in FFN_WIDTHS.items()),
    stem="conv",
)
SOFTMAX, LINEAR = (MIXED.replace_attention(Choice(name)) for name in ("softmax", "linear"))


@pytest.mark.parametrize(
    ("attention", "share"), [("softmax", 0), ("softmax_relpos", 0), ("cosformer", 1), ("linear", 1)]
)
def test_the_share_of_layers_that_are_linear_in_the_tokens(attention: str, share: float) -> None:
    assert share_efficient(MIXED.replace_attention(Choice(attention))) == share
    assert share_efficient(MIXED) == 2 / 3


def test_points_lie_at_their_costs_in_the_colour_of_their_share() -> None:
    spec = request()
    shares = {MIXED: 2 / 3, SOFTMAX: 0.0, LINEAR: 1.0}
    trials = [trial("search", place, each) for place, each in enumerate(shares)]
    summary = summarize(spec, trials)
    drawn = figure(spec, summary, trials)
    search, front = (each for each in drawn.data if each.marker.colorscale is not None)
    assert (search.marker.cmin, search.marker.cmax) == (0, 1)
    assert list(search.marker.color) == list(shares.values())
    assert list(search.x) == [COST(each)["flops"] for each in shares]
    assert list(search.y) == [each.metrics["cross_entropy"] for each in trials]
    assert list(search.hovertext) == [hover(summary, each) for each in trials]
    # Efficient attention is the cheaper, and in these made-up scores the worse: all are in front.
    assert list(front.x) == [COST(each)["flops"] for each in (LINEAR, MIXED, SOFTMAX)]
    assert list(front.marker.color) == [1, 2 / 3, 0]


def test_a_strip_shows_attention_by_colour_and_ffn_width_by_height() -> None:
    known = looks(["linear", "softmax", "cosformer"])
    assert len({look.colour for look in known.values()}) == 3
    drawn = ElementTree.fromstring(strip(MIXED, known, largest_ffn=192, deepest=[4]))
    blocks = [each.attrib for each in drawn.iter("rect")]
    assert [each["fill"] for each in blocks] == [known[name].colour for name in FFN_WIDTHS]
    assert [text.text for text in drawn.iter("text")] == [known[name].mark for name in FFN_WIDTHS]
    heights = [int(each["height"]) for each in blocks]
    assert heights == [TALLEST * width // 192 for width in FFN_WIDTHS.values()] == [22, 33, 44]
    # They stand side by side on one ground, at the scale of the deepest network.
    assert {int(each["y"]) + height for each, height in zip(blocks, heights, strict=True)} == {44}
    lefts, widths = ([int(each[name]) for each in blocks] for name in ("x", "width"))
    assert lefts[0] + widths[0] < lefts[1] < lefts[1] + widths[1] < lefts[2]
    assert int(drawn.attrib["width"]) == 4 * (lefts[1] - lefts[0])


def test_a_point_says_its_costs_and_its_layers_line_by_line() -> None:
    spec, mixed = request(), trial("search", 7, MIXED)
    lines = hover(summarize(spec, [mixed]), mixed).split("<br>")
    assert lines[0] == "<b>search 7</b>"
    assert f"flops {COST(MIXED)['flops'] / 1e6:#.4g} MFLOPs" in lines
    assert f"cross_entropy {mixed.metrics['cross_entropy']:#.4g} nats" in lines
    assert lines[-4:] == [
        f"{MIXED.id}: 3 layers, width 48, patch 2",
        "1. softmax 2 × 16, ffn 96",
        "2. cosformer 2 × 16, ffn 144",
        "3. linear 2 × 16, ffn 192",
    ]


# Three layers read by two; widths, types and spans differ from place to place.
TRANSLATION = EncoderDecoder(
    encoder_width=640,
    decoder_width=512,
    encoder_layers=tuple(
        EncoderLayer(Choice(name), 2, 16, width) for name, width in FFN_WIDTHS.items()
    ),
    decoder_layers=(
        DecoderLayer(Choice("softmax"), 4, 16, Choice("linear"), 8, 32, 96),
        DecoderLayer(Choice("cosformer"), 2, 32, Choice("softmax"), 4, 16, 48, cross_span=3),
    ),
)
LINES = [
    "encoder 1. softmax 2 × 16, ffn 96",
    "encoder 2. cosformer 2 × 16, ffn 144",
    "encoder 3. linear 2 × 16, ffn 192",
    "decoder 1. softmax 4 × 16, cross linear 8 × 32, ffn 96",
    "decoder 2. cosformer 2 × 32, cross softmax 4 × 16 over 3 layers, ffn 48",
]


class TestTwoStacks:
    KNOWN = looks(["softmax", "cosformer", "linear"])

    def test_every_layer_says_its_stack_its_place_and_both_its_sites(self) -> None:
        assert layer_lines(TRANSLATION) == LINES
        assert marks(TRANSLATION, self.KNOWN) == "S C L | S/L C/S"
        # Of seven sites four are efficient.
        assert share_efficient(TRANSLATION) == 4 / 7

    def test_depths_and_widths_are_told_by_stack(self) -> None:
        assert outline(TRANSLATION) == "3 + 2 layers, width 640 + 512"
        turned = replace(TRANSLATION, encoder_width=512, decoder_width=640)
        assert outline(turned) == "3 + 2 layers, width 512 + 640"
        assert outline(replace(turned, decoder_width=512)) == "3 + 2 layers, width 512"

    def test_a_strip_parts_the_stacks_and_the_sites_of_a_layer(self) -> None:
        drawn = ElementTree.fromstring(
            strip(TRANSLATION, self.KNOWN, largest_ffn=192, deepest=[4, 3])
        )
        assert [each.text for each in drawn.iter("title")] == LINES
        layers = [group.findall("rect") for group in drawn.iter("g")]
        assert list(map(len, layers)) == [1, 1, 1, 2, 2]
        colours = [self.KNOWN[str(each)].colour for each in TRANSLATION.attentions]
        assert [each.attrib["fill"] for group in layers for each in group] == colours
        written = [self.KNOWN[str(each)].mark for each in TRANSLATION.attentions]
        assert [text.text for text in drawn.iter("text")] == written
        heights = [{int(each.attrib["height"]) for each in group} for group in layers]
        assert heights == [{22}, {33}, {44}, {22}, {LOWEST}]
        spans = [[(int(e.attrib["x"]), int(e.attrib["width"])) for e in group] for group in layers]
        lefts = [group[0][0] for group in spans]
        rights = [sum(group[-1]) for group in spans]
        step = lefts[1] - lefts[0]
        # There is room for a fourth and a third layer, and more between encoder and decoder.
        assert [left - lefts[0] for left in lefts[:3]] == [0, step, 2 * step]
        assert lefts[4] - lefts[3] == step
        assert lefts[3] > 4 * step
        assert int(drawn.attrib["width"]) == lefts[3] + 3 * step
        # The sites of one layer stand closer than layers do, and take the room of one.
        for first, second in spans[3:]:
            assert 0 < second[0] - sum(first) < step - BLOCK
        assert {right - left for left, right in zip(lefts, rights, strict=True)} == {BLOCK}
        assert all(line in drawn.attrib["aria-label"] for line in LINES)

    def test_the_strips_of_a_page_share_their_scale_stack_by_stack(self) -> None:
        deep = replace(TRANSLATION, decoder_layers=TRANSLATION.decoder_layers * 2)
        shallow = replace(deep, encoder_layers=TRANSLATION.encoder_layers[:1])
        spec = request(task="numbers_en_de", space="numbers_tiny", objectives=["loss", "flops"])
        trials = [
            Trial("search", place, each, Measurement.of(held, 1.0))
            for place, (each, held) in enumerate(
                [
                    (TRANSLATION, {"loss": 1.0, "perplexity": 2.718, "flops": 3e6}),
                    (shallow, {"loss": 1.1, "perplexity": 3.004, "flops": 2e6}),
                ]
            )
        ]
        html = page(spec, summarize(spec, trials), trials)
        known = looks(["softmax", "cosformer", "linear"])
        for each in (TRANSLATION, shallow):
            assert strip(each, known, largest_ffn=192, deepest=[3, 4]) in html
        assert "behind the gap: decoder, self- and cross-attention" in html
        assert "height: FFN width, up to 192" in html
        # A ratio of likelihoods has no unit.
        assert '<td data-head="perplexity">2.718</td>' in html
        pictures = [trial("search", 0, MIXED)]
        assert "behind the gap" not in page(request(), summarize(request(), pictures), pictures)

    def test_a_point_says_both_stacks_line_by_line(self) -> None:
        spec = request(task="numbers_en_de", space="numbers_tiny", objectives=["loss", "flops"])
        metrics = {"loss": 1.25, "perplexity": 3.5, "flops": 2.5e6, "params": 1e5}
        found = Trial("search", 3, TRANSLATION, Measurement.of(metrics, 1.0))
        lines = hover(summarize(spec, [found]), found).split("<br>")
        assert lines[:3] == ["<b>search 3</b>", "loss 1.250 nats", "flops 2.500 MFLOPs"]
        assert lines[-6:] == [f"{TRANSLATION.id}: 3 + 2 layers, width 640 + 512", *LINES]

    def test_the_frame_has_the_sizes_of_both_stacks(self) -> None:
        found = Trial("search", 3, TRANSLATION, Measurement.of({"loss": 1.25}, 1.0))
        (row,) = trials_table([found]).to_pylist()
        told = {name: row[name] for name in row if "depth" in name or "width" in name}
        assert told == {
            "encoder_depth": 3,
            "encoder_width": 640,
            "decoder_depth": 2,
            "decoder_width": 512,
        }
        assert row["attention"] == [str(each) for each in TRANSLATION.attentions]
        assert row["loss"] == 1.25
        assert Architecture.from_json(json.loads(row["architecture"])) == TRANSLATION
        # A metric of such a name keeps out of the way.
        taken = Trial("search", 4, MIXED, Measurement.of({"encoder_depth": 9.0}, 1.0))
        assert trials_table([taken]).column("encoder_depth_metric").to_pylist() == [9.0]
