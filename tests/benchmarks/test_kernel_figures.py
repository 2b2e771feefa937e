"""Do the benchmarks of the kernels compare like with like, and say what came out plainly?"""

from __future__ import annotations

import json
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks import kernel_blocks, kernel_resources, kernels
from benchmarks.measuring import attention_calls, report, rivals
from benchmarks.measuring.compiled import Resources
from benchmarks.measuring.verdict import break_even, faster
from nas_kernels import cosformer_attention, linear_attention
from nas_kernels.testing import assert_close

Arguments = Callable[[Sequence[str]], object]


@pytest.mark.parametrize(
    ("lower", "upper", "told"),
    [
        (0.5, 0.9, "ours"),
        (1.1, 1.3, "SDPA"),
        (0.9, 1.1, "even"),
        (0.9, 1.0, "even"),
        (1.0, 1.2, "even"),
    ],
)
def test_who_is_faster_is_said_where_the_quartiles_agree(
    lower: float, upper: float, told: str
) -> None:
    assert faster(lower, upper, "SDPA") == told


@pytest.mark.parametrize(
    ("fastest", "length"),
    [
        ({1024: "ours", 64: "SDPA", 512: "ours", 256: "even", 128: "ours"}, 512),
        ({128: "ours", 64: "ours"}, 64),
        ({64: "ours", 128: "SDPA"}, None),
        ({64: "ours", 128: "even"}, None),
    ],
)
def test_break_even_is_where_every_longer_one_is_faster(
    fastest: dict[int, str], length: int | None
) -> None:
    assert break_even(fastest) == length


def test_break_even_is_told_of_each_case_against_sdpa_alone() -> None:
    common = {"operator": "linear", "backward": False, "heads": 8, "head_width": 64}
    found = [
        {**common, "causal": causal, "rival": rival, "length": length, "faster": told}
        for causal, rival, length, told in (
            (False, "SDPA", 64, "SDPA"),
            (False, "eager", 64, "ours"),
            (False, "SDPA", 128, "ours"),
            (False, "eager", 128, "eager"),
            (True, "SDPA", 64, "ours"),
            (True, "SDPA", 128, "SDPA"),
        )
    ]
    case = {"operator": "linear", "backward": False, "width": 512, "head_width": 64}
    assert kernels.break_evens(found) == [
        {**case, "causal": False, "length": 128},
        {**case, "causal": True, "length": None},
    ]


@pytest.mark.parametrize(
    ("arguments", "given", "told"),
    [
        (kernels.arguments, "--pairs 1", "--pairs: 1 given, expected a whole number from 2 up"),
        (kernels.arguments, "--lengths 64 0", "--lengths: 0 given, expected a whole number from 1"),
        (kernels.arguments, "--lengths 6.4", "--lengths: '6.4' given, expected a whole number"),
        (kernels.arguments, "--head-widths 48", "48 given, expected a divisor of H x K = 512"),
        (kernels.arguments, "--head-widths 512", "expected a whole number from 1 to 256"),
        (kernels.arguments, "--device tpu", "--device: 'tpu' given, expected cpu or cuda"),
        (kernels.arguments, "--device cuda", "torch finds no CUDA device here"),
        (kernel_blocks.arguments, "--pairs 1", "--pairs: 1 given"),
        (kernel_blocks.arguments, "--widths 48", "--widths: invalid choice: 48"),
        (kernel_blocks.arguments, "--best 0", "--best: 0 given"),
        (kernel_resources.arguments, "--capability 9", "--capability: '9' given, expected one of"),
        (kernel_resources.arguments, "--capability 8.8", "--capability: '8.8' given"),
        (kernel_resources.arguments, "--widths 257", "expected a whole number from 1 to 256"),
    ],
)
def test_a_bad_value_is_one_error_before_anything_is_measured(
    arguments: Arguments,
    given: str,
    told: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit) as ended:
        arguments(given.split())
    assert ended.value.code == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
    assert len(errors) == 1
    assert told in errors[0]


def test_resources_are_refused_to_tritons_interpreter(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel_resources, "interpreted", lambda: True)
    with pytest.raises(SystemExit):
        kernel_resources.arguments([])
    assert "error: TRITON_INTERPRET is set, expected not" in capsys.readouterr().err


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("operator", ["cosformer", "linear"])
def test_eager_is_the_formula_of_the_operator_itself(operator: str, causal: bool) -> None:
    *tensors, _ = attention_calls.Shape(2, 2, 19, 8).draw("cpu", torch.float32)
    own = cosformer_attention if operator == "cosformer" else linear_attention
    want = own(*tensors, causal=causal, backend="reference")
    got = rivals.rivals(operator, 19, causal)["eager"].core(*tensors)
    assert_close("o", got, want, 1e-5)


def test_one_rivals_tensors_are_gone_before_the_next_ones_are_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[weakref.ref[Tensor]] = []
    alive: list[int] = []

    def given(tensors: list[Tensor]) -> list[Tensor]:
        alive.append(sum(each() is not None for each in made))
        own = [each.clone() for each in tensors]
        made.extend(map(weakref.ref, own))
        return own

    def others(*_: object) -> dict[str, rivals.Rival]:
        eager = rivals.Rival(lambda q, k, v: q * k * v, given)
        return {"one": eager, "another": eager}

    monkeypatch.setattr(kernels, "rivals", others)
    shape = attention_calls.Shape(1, 2, 5, 8)
    found = [each["rival"] for each in kernels.measure(shape, "cpu", 2, None)]
    assert found == ["one", "another"] * 8
    assert alive == [0] * 16


def test_on_a_cpu_what_needs_a_gpu_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "figures.json"
    given = ["kernels.py", "--device", "cpu", "--lengths", "8", "5", "--pairs", "2"]
    monkeypatch.setattr("sys.argv", [*given, "--out", str(out)])
    monkeypatch.setitem(kernels.TOKENS, "cpu", 16)
    threads = torch.get_num_threads()
    try:
        kernels.main()
    finally:
        torch.set_num_threads(threads)
    table = capsys.readouterr().out
    assert not [each for each in ("nan", "TB/s", "floor", "peak") if each in table]
    assert all(each in table for each in (" B ", "ours, ms", "faster", "Break-even"))

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    told = json.loads(out.read_text(encoding="utf-8"), parse_constant=refuse)
    assert told["copy_bandwidth"] is None
    assert len(told["figures"]) == 2 * 2 * 2 * 2 * 2
    assert {(each["peak_bytes"], each["over_floor"]) for each in told["figures"]} == {(None, None)}
    assert len(told["break_even"]) == 2 * 2 * 2


def test_on_a_gpu_the_floor_and_the_peak_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    case = {"operator": "linear", "causal": True, "backward": True, "heads": 16, "head_width": 32}
    told = {"batch": 64, "length": 1024, "rival": "SDPA", "faster": "ours", "a_ms": 1.5}
    ratio = {"ratio": 0.5, "lower_quartile": 0.4, "upper_quartile": 0.6}
    kernels.show([{**case, **told, **ratio, "over_floor": 1.25, "peak_bytes": 3e6}], 10, 4e12)
    title, heads, _, row, *_, last = capsys.readouterr().out.strip().splitlines()
    assert "a copy moves 4.00 TB/s" in title
    assert heads.endswith("over floor  our peak, MB")
    cells = "linear yes with backward 512 32 64 1024 SDPA 1.500 0.50 0.40 to 0.60 ours 1.25 3"
    assert row.split() == cells.split()
    assert last.split() == ["linear", "yes", "with", "backward", "512", "32", "1024"]


def test_figures_that_are_no_numbers_are_not_written(tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    with pytest.raises(ValueError, match="JSON compliant"):
        report.write(out, {"ratio": float("nan")})
    assert not out.exists()


@pytest.mark.parametrize("operator", kernel_resources.OPERATORS)
def test_each_kernel_of_a_pass_is_told_apart(
    operator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for tokens in kernel_resources.LENGTHS:
        made = kernel_resources.launches(operator, torch.float32, 32, True, tokens)
        told = [(of, each.kernel.__name__, kernel_resources.gives(each)) for of, each in made]
        assert len(set(told)) == len(told)
        assert all(what != "-" for _, _, what in told)
    # Nothing is compiled under Triton's interpreter.
    monkeypatch.setattr(kernel_resources, "resources", lambda *_: Resources(1, 0, 0))
    found: list[dict[str, Any]] = list(kernel_resources.measure(operator, "fp32", 32, True, (9, 0)))
    told_once = {(each["kernel"], each["gives"]): each for each in found}
    assert len(told_once) == len(found)
    if operator == "window":
        assert all(each["lengths"] == [256, 1024] for each in found)
    else:
        state = told_once["state_kernel", "state of keys"]
        assert (state["passes"], state["lengths"]) == (["forward", "backward"], [1024])


def test_the_best_blocks_are_told_of_each_entry_and_length() -> None:
    common = {"operands": "bf16", "causal": False, "widest": 64}
    found = [
        {**common, "length": length, "ratio": ratio}
        for length, ratio in ((4096, 1.0), (256, 0.9), (256, 1.2), (4096, 0.8), (256, 0.7))
    ]
    best = [(each["length"], each["ratio"]) for each in kernel_blocks.best(found, 2)]
    assert best == [(256, 0.7), (256, 0.9), (4096, 0.8), (4096, 1.0)]
