"""Does the page draw what the record holds: shares, colours, heights, and a point's text?"""

from xml.etree import ElementTree

import pytest

from nas.operators.declaration import Choice
from nas.report.architecture import TALLEST, looks, share_efficient, strip
from nas.report.front import figure, hover
from nas.report.summary import summarize
from nas.space.architecture import Architecture, Layer
from tests.report.samples import COST, request, trial

FFN_WIDTHS = {"softmax": 96, "cosformer": 144, "linear": 192}
MIXED = Architecture(
    patch_size=2,
    width=48,
    layers=tuple(Layer(Choice(name), 2, 16, width) for name, width in FFN_WIDTHS.items()),
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
    drawn = ElementTree.fromstring(strip(MIXED, known, largest_ffn=192, deepest=4))
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
