"""Are the files whole, self-contained and safe, whatever the record holds?"""

import json
import math
import os
import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from nas.operators.declaration import Choice
from nas.report.files import write_atomically, write_report
from nas.report.frame import trials_frame, trials_table
from nas.report.front import NEUTRAL, figure
from nas.report.history import history_of
from nas.report.page import page
from nas.report.summary import summarize
from nas.report.table import table, tables
from nas.report.words import words
from nas.search.trial import Measurement, Standing, Trial
from nas.space.architecture import Architecture
from tests.report.samples import confirmed, controls, full, request, searched, trial
from tests.space.spaces import encoder

EVIL = "<script>alert(1)</script>&\"'</script><img src=x onerror=alert(2)>"


class Tags(HTMLParser):
    """Every tag with its attributes, scripts' contents left out as browsers do."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))


def tags(html: str) -> list[tuple[str, dict[str, str | None]]]:
    parser = Tags()
    parser.feed(html)
    return parser.seen


def own_scripts(html: str) -> str:
    """The page without plotly's library."""
    return re.sub(r"<script[^>]*>/\*\*\s*\n\* plotly\.js.*?</script>", "", html, flags=re.DOTALL)


def hostile() -> list[Trial]:
    spec = request()
    trials = searched(spec, 25) + controls(spec, 5, 2)
    broken = Trial("search", 25, trials[0].architecture, Measurement.failed(EVIL))
    named = replace(trials[0], label=EVIL)
    control = replace(trials[25], label=EVIL)
    return [named, *trials[1:25], control, *trials[26:], broken]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    spec = request()
    trials = full(spec)
    member = summarize(spec, trials).front[0].architecture
    trials += confirmed([member], {"softmax": [-0.1, -0.2], "linear": [0.1, 0.3]})
    folder = tmp_path_factory.mktemp("report")
    return write_report(folder, spec, trials, search_id="01J", extra={"device": "cpu"})


def test_all_files_are_there_and_nothing_else(written: dict[str, Path]) -> None:
    assert set(written) == {
        *("pareto.html", "pareto.json", "fidelity.json", "history.json", "trials.parquet")
    }
    folder = written["pareto.html"].parent
    assert {path.name for path in folder.iterdir()} == set(written)


def test_page_fetches_nothing(written: dict[str, Path]) -> None:
    html = written["pareto.html"].read_text()
    seen = tags(html)
    for tag, attributes in seen:
        assert "src" not in attributes, tag
        assert "href" not in attributes, tag
        assert tag not in {"link", "iframe", "object", "embed", "base", "form", "img"}
    policies = [a["content"] for t, a in seen if a.get("http-equiv") == "Content-Security-Policy"]
    assert len(policies) == 1
    assert "default-src 'none'" in str(policies[0])
    assert "http" not in str(policies[0])
    style = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
    assert "url(" not in "".join(style)
    assert "@import" not in "".join(style)


def test_page_offers_no_upload(written: dict[str, Path]) -> None:
    own = own_scripts(written["pareto.html"].read_text())
    assert '"showSendToCloud": false' in own
    assert "http" not in own.replace("http-equiv", "")


def test_everything_from_outside_is_escaped(tmp_path: Path) -> None:
    spec, trials = request(), hostile()
    files = write_report(tmp_path, spec, trials, search_id=EVIL, extra={EVIL: EVIL})
    named = replace(summarize(spec, trials), name=EVIL, space=EVIL, task=EVIL, constraints=(EVIL,))
    tame = write_report(tmp_path / "tame", spec, searched(spec, 25), search_id="x")
    scripts = [tag for tag, _ in tags(tame["pareto.html"].read_text())].count("script")
    drawn = page(spec, named, trials, search_id=EVIL, history=history_of(spec, trials, ""))
    for html in (files["pareto.html"].read_text(), drawn):
        own = own_scripts(html)
        assert "alert(1)" in own
        assert "<script>alert" not in own
        assert "<img" not in own
        assert [tag for tag, _ in tags(html)].count("script") == scripts
    given = json.loads(files["pareto.json"].read_text())
    assert given["search"] == EVIL
    assert given["extra"] == {EVIL: EVIL}


def test_hover_text_is_escaped_for_plotly() -> None:
    spec = request()
    trials = hostile()
    made = figure(spec, summarize(spec, trials), trials)
    texts = [text for trace in made.data for text in trace.hovertext or ()]
    assert any("alert(1)" in text for text in texts)
    for text in texts:
        assert set(re.findall(r"<[^>]*>", text)) <= {"<b>", "</b>", "<br>"}


def refuse(name: str) -> Any:
    raise AssertionError(f"{name} is not JSON")


@pytest.mark.parametrize("count", [0, 1, 2, 30])
def test_json_never_holds_nan(tmp_path: Path, count: int) -> None:
    spec = request()
    extra = {"time": math.nan, "many": [math.inf, 1.0], "where": Path("a")}
    files = write_report(tmp_path, spec, searched(spec, count), search_id="x", extra=extra)
    given = json.loads(files["pareto.json"].read_text(), parse_constant=refuse)
    assert given["extra"] == {"time": None, "many": [None, 1.0], "where": "a"}


def test_json_holds_the_summary(written: dict[str, Path]) -> None:
    given = json.loads(written["pareto.json"].read_text(), parse_constant=refuse)
    spec = request()
    summary = summarize(spec, full(spec))
    assert given["search"] == "01J"
    assert given["reference"] == summary.reference
    assert [each["index"] for each in given["front"]] == [each.index for each in summary.front]
    for shown, member in zip(given["front"], summary.front, strict=True):
        assert Architecture.from_json(shown["architecture"]) == member.architecture
    assert given["comparisons"][0]["n"] == summary.comparisons[0].n
    assert any("Supernet scores never decide" in each for each in given["words"])


def test_parquet_reads_back_what_was_tried(written: dict[str, Path]) -> None:
    rows = parquet.read_table(written["trials.parquet"]).to_pylist()
    spec = request()
    trials = full(spec)
    assert len(rows) > len(trials)
    for row, each in zip(rows, trials, strict=False):
        assert (row["role"], row["index"], row["label"]) == (each.role, each.index, each.label)
        assert row["state"] == each.measurement.state
        assert row["reason"] == each.measurement.reason
        assert Architecture.from_json(json.loads(row["architecture"])) == each.architecture
        assert row["architecture_id"] == each.architecture.id
        assert row["attention"] == [str(layer.attention) for layer in each.architecture.layers]
        assert row["depth"] == each.architecture.depth
        assert row["width"] == encoder(each.architecture).width
        for name in ("cross_entropy", "flops", "accuracy"):
            assert row[name] == each.metrics.get(name)


def test_frame_of_nothing_has_its_columns() -> None:
    frame = trials_frame([])
    assert len(frame) == 0
    assert {"role", "index", "attention", "share_efficient"} <= set(frame.columns)


def test_a_metric_with_the_name_of_a_column_is_kept() -> None:
    each = searched(request(), 1)[0]
    odd = replace(each, measurement=Measurement.of({**each.metrics, "depth": 7.5}))
    row = trials_table([odd]).to_pylist()[0]
    assert (row["depth"], row["depth_metric"]) == (each.architecture.depth, 7.5)


def test_a_write_that_dies_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "pareto.json"
    write_atomically(path, b"old")

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["pareto.json"]


def test_a_link_keeps_its_place(tmp_path: Path) -> None:
    kept, link = tmp_path / "kept.html", tmp_path / "link.html"
    link.symlink_to(kept)
    for content in (b"first", b"second"):
        assert write_atomically(link, content) == kept
        assert link.is_symlink()
        assert kept.read_bytes() == content
    assert sorted(each.name for each in tmp_path.iterdir()) == ["kept.html", "link.html"]


def test_what_is_no_file_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    # Open at both ends, so that nobody waits for anybody.
    end = os.open(pipe, os.O_RDWR)
    # As /dev/stdout is where a pipe is standard output.
    for path in (pipe, link, Path(f"/proc/self/fd/{end}")):
        write_atomically(path, b"page")
        assert os.read(end, 100) == b"page"
    os.close(end)
    assert pipe.is_fifo()
    assert link.is_symlink()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["link", "pipe"]
    with pytest.raises(IsADirectoryError):
        write_atomically(tmp_path, b"page")


@pytest.mark.parametrize("kept", ["none", "failed", "one", "no controls", "controls only"])
def test_little_still_gives_a_page(tmp_path: Path, kept: str) -> None:
    spec = request()
    failed = Trial("search", 0, spec.search_space.extreme("smallest"), Measurement.failed("broken"))
    given = {
        "none": [],
        "failed": [failed],
        "one": searched(spec, 1),
        "no controls": searched(spec, 30),
        "controls only": controls(spec, 10, 2),
    }[kept]
    html = write_report(tmp_path, spec, given, search_id="x")["pareto.html"].read_text()
    assert ("No trial was scored" in html) == (kept in ("none", "failed"))
    assert ("The front is empty" in html) == (kept in ("none", "failed", "controls only"))
    assert "Not resolved" in html


def test_axes_carry_units_and_the_wide_one_is_logarithmic() -> None:
    spec = request()
    trials = full(spec)
    made = figure(spec, summarize(spec, trials), trials)
    assert made.layout.xaxis.title.text == "flops (FLOPs), lower is better"
    assert made.layout.yaxis.title.text == "cross_entropy (nats), lower is better"
    assert made.layout.xaxis.type == "log"
    assert made.layout.yaxis.type is None
    names = [trace.name for trace in made.data if trace.showlegend is not False]
    assert names == [
        "random control",
        "all softmax",
        "all cosformer",
        "all linear",
        "search",
        "front",
    ]
    assert {trace.line.shape for trace in made.data if trace.name == "front"} == {"hv"}
    symbols = [trace.marker.symbol for trace in made.data[:4]]
    assert len(set(symbols)) == 4


def test_the_legend_has_no_colour_of_the_scale() -> None:
    spec = request()
    trials = full(spec)
    made = figure(spec, summarize(spec, trials), trials)
    coloured = [trace for trace in made.data if trace.marker.colorscale is not None]
    assert [trace.name for trace in coloured] == ["search", "front"]
    assert not any(trace.showlegend for trace in coloured)
    # The points go with the symbol in the legend, which has no point of its own.
    for trace in coloured:
        (key,) = (e for e in made.data if e.legendgroup == trace.legendgroup and e is not trace)
        assert list(key.x) == list(key.y) == [None]
        assert key.marker.color == NEUTRAL
        assert (key.mode, key.marker.size) == (trace.mode, trace.marker.size)


def test_rivals_are_drawn_with_their_type() -> None:
    spec = request()
    trials = searched(spec, 25)
    member = summarize(spec, trials).front[0].architecture
    label = Standing(member.id, "linear").label()
    rival = trial("matched", 0, member.replace_attention(Choice("linear")), label=label)
    made = figure(spec, summarize(spec, trials), [*trials, rival])
    assert unescape(made.data[0].name) == "all linear, at a member's FLOPs"
    assert list(made.data[0].x) == [rival.metrics["flops"]]


def test_sentences_show_code_as_such() -> None:
    spec = request()
    trials = searched(spec, 25) + controls(spec, 20, 0)
    html = own_scripts(page(spec, summarize(spec, trials), trials))
    assert "<code>nas confirm ID</code>" in html
    assert "`" not in html.partition("What follows")[2]
    assert any("`nas confirm ID`" in sentence for sentence in words(summarize(spec, trials)))


def test_wide_tables_can_be_read_row_by_row(written: dict[str, Path]) -> None:
    html = written["pareto.html"].read_text()
    heads = [attributes["data-head"] for tag, attributes in tags(html) if "data-head" in attributes]
    assert {"cross_entropy", "accuracy", "verdict", "test_accuracy", "reasons"} <= set(heads)
    kinds = [attributes.get("class") for tag, attributes in tags(html) if tag == "table"]
    # Strips, hypervolume, best control (narrow enough), results, differences, trials, the front of
    # trained networks, provenance.
    assert kinds == ["strips cards", "cards", None, *["cards"] * 4, "facts"]
    assert "@media (max-width: 760px)" in html


def test_strips_carry_every_metric_and_mark_dominated_members() -> None:
    spec = request()
    trials = searched(spec, 30)
    best = summarize(spec, trials).front[0]
    trials += [trial("random", i, best.architecture, noise=-0.2) for i in (4, 7)]
    html = own_scripts(page(spec, summarize(spec, trials), trials))
    row = html.partition("<tbody>")[2].partition("</tr>")[0]
    assert '<td data-head="#">1 *</td>' in row
    assert f'<td data-head="accuracy">{best.metrics["accuracy"]:.4g}' in row
    assert "dominated by random 4 and 1 more" in row
    assert "* a control dominates it" in html


def test_a_limit_chosen_after_the_run_is_said_to_be_one() -> None:
    spec = request(constraints=("flops <= 6e7", "params >= 10"))
    trials = searched(spec, 25) + controls(spec, 20, 0)
    summary = summarize(spec, trials, ["flops <= 60000000"])
    html = own_scripts(page(spec, summary, trials))
    assert "flops &lt;= 60000000 (chosen after the run); params &gt;= 10</p>" in html
    assert '<td data-head="verdict">exploratory</td>' in html


def test_more_objectives_draw_no_staircase() -> None:
    spec = request(objectives=("cross_entropy", "flops", "params"))
    trials = full(spec)
    made = figure(spec, summarize(spec, trials), trials)
    points, key = made.data[-2:]
    assert points.mode == key.mode == "markers"
    assert "params" in points.hovertext[0]


def test_tables_are_rectangular() -> None:
    spec = request()
    trials = full(spec)
    member = summarize(spec, trials).front[0].architecture
    trials += confirmed([member], {"softmax": [-0.1, -0.2], "linear": [0.1, 0.3]})
    summary = summarize(spec, trials)
    shown = (table(summary), *tables(summary))
    assert [each.title.partition(" ")[0] for each in shown] == [
        "Front",
        "Hypervolume",
        "Best",
        "Trained",
        "Trained",
        "Trials",
    ]
    for each in shown:
        assert {len(row) for row in each.rows} == {len(each.columns)}
