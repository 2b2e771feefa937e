"""Does a step repeated give what the causal form gives, with memory that does not grow?"""

import math
from functools import partial

import pytest
import torch
from torch import Tensor

from nas_kernels import (
    LinearState,
    cosformer_attention,
    cosformer_attention_copies,
    cosformer_attention_read,
    cosformer_attention_state,
    cosformer_attention_step,
    linear_attention,
    linear_attention_read,
    linear_attention_state,
    linear_attention_step,
)
from nas_kernels.testing import assert_close
from tests.kernels.drawing import draw


@pytest.mark.parametrize("feature_map", ["relu", "elu1"])
def test_linear_steps_are_the_causal_form(feature_map: str) -> None:
    q, k, v, _ = draw((2, 3, 20, 20, 8, 5))
    step = partial(linear_attention_step, feature_map=feature_map)  # type: ignore[arg-type]
    state: LinearState | None = None
    found = []
    for i in range(20):
        out, state = step(state, *(t[:, :, i : i + 1] for t in (q, k, v)))
        assert [tuple(each.shape) for each in state] == [(2, 3, 8, 5), (2, 3, 8)]
        found.append(out)
    want = linear_attention(q, k, v, feature_map=feature_map, causal=True)  # type: ignore[arg-type]
    assert_close("o", torch.cat(found, dim=2), want, 1e-12)


@pytest.mark.parametrize("norm_length", [19, 30, torch.tensor([19, 40])])
def test_cosformer_steps_are_the_causal_form(norm_length: Tensor | int) -> None:
    q, k, v, _ = draw((2, 3, 20, 20, 8, 5))
    state: LinearState | None = None
    found = []
    for i in range(20):
        token = [t[:, :, i : i + 1] for t in (q, k, v)]
        place = i if i % 2 else torch.tensor([i, i])
        out, state = cosformer_attention_step(
            state, *token, position=place, norm_length=norm_length
        )
        assert [tuple(each.shape) for each in state] == [(2, 3, 16, 5), (2, 3, 16)]
        found.append(out)
    want = cosformer_attention(q, k, v, norm_length=norm_length, causal=True)
    assert_close("o", torch.cat(found, dim=2), want, 1e-12)


def test_rows_may_stand_at_different_positions() -> None:
    q, k, v, _ = draw((2, 1, 5, 5, 4, 4))
    norms = torch.tensor([9, 6])
    ends = torch.tensor([4, 2])
    apart = []
    for row, end in enumerate(ends.tolist()):
        state = None
        for i in range(end + 1):
            token = [t[row : row + 1, :, i : i + 1] for t in (q, k, v)]
            out, state = cosformer_attention_step(
                state, *token, position=i, norm_length=int(norms[row])
            )
        apart.append((out, state))
    # The same last tokens in one batch, each on its own state before.
    before = []
    for row, end in enumerate(ends.tolist()):
        state = None
        for i in range(end):
            token = [t[row : row + 1, :, i : i + 1] for t in (q, k, v)]
            _, state = cosformer_attention_step(
                state, *token, position=i, norm_length=int(norms[row])
            )
        assert state is not None
        before.append(state)
    both = LinearState(*(torch.cat(parts) for parts in zip(*before, strict=True)))
    last = [
        torch.stack([t[row, :, end : end + 1] for row, end in enumerate(ends.tolist())])
        for t in (q, k, v)
    ]
    out, _ = cosformer_attention_step(both, *last, position=ends, norm_length=norms)
    assert_close("o", out, torch.cat([each for each, _ in apart]), 1e-12)


def test_a_state_that_was_given_is_left_as_it_was() -> None:
    q, k, v, _ = (t.to(torch.bfloat16) for t in draw((1, 1, 2, 2, 4, 4)))
    out, first = linear_attention_step(None, *(t[:, :, :1] for t in (q, k, v)))
    assert out.dtype == torch.bfloat16
    assert {each.dtype for each in first} == {torch.float32}
    kept = [each.clone() for each in first]
    linear_attention_step(first, *(t[:, :, 1:] for t in (q, k, v)))
    assert all(torch.equal(a, b) for a, b in zip(first, kept, strict=True))


def test_autocast_changes_no_step() -> None:
    q, k, v, _ = (t.float() for t in draw((1, 2, 2, 2, 8, 8)))
    _, state = linear_attention_step(None, *(t[:, :, :1] for t in (q, k, v)))
    last = [t[:, :, 1:] for t in (q, k, v)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside, _ = linear_attention_step(state, *last)
    assert torch.equal(inside, linear_attention_step(state, *last)[0])


def test_a_state_may_be_a_plain_pair_as_reordered_beams_leave_it() -> None:
    q, k, v, _ = draw((2, 1, 2, 2, 4, 4))
    _, state = linear_attention_step(None, *(t[:, :, :1] for t in (q, k, v)))
    order = torch.tensor([1, 0])
    last = [t[order, :, 1:] for t in (q, k, v)]
    out, _ = linear_attention_step(tuple(t[order] for t in state), *last)  # type: ignore[arg-type]
    straight, _ = linear_attention_step(state, *(t[:, :, 1:] for t in (q, k, v)))
    assert torch.equal(out[order], straight)


def test_what_is_no_step_is_named() -> None:
    one, two = torch.zeros(2, 1, 1, 4), torch.zeros(2, 1, 2, 4)
    step = partial(cosformer_attention_step, None, one, one, one)
    with pytest.raises(ValueError, match="q has 2 tokens, expected 1"):
        linear_attention_step(None, two, two, two)
    with pytest.raises(ValueError, match="norm_length is None, expected a number"):
        step(position=0, norm_length=None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="norm_length is 0, expected a number of at least 1"):
        step(position=0, norm_length=0)
    with pytest.raises(
        ValueError, match="norm_length is '4', expected a number of at least 1, or a"
    ):
        step(position=0, norm_length="4")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="norm_length is inf, expected a number of at least 1"):
        step(position=0, norm_length=float("inf"))
    with pytest.raises(ValueError, match="position is -1, expected a number of at least 0"):
        step(position=-1, norm_length=4)
    with pytest.raises(ValueError, match=r"position is 5.0, expected at most norm_length, 4.0"):
        step(position=5, norm_length=4)
    with pytest.raises(ValueError, match=r"position has shape \(3,\), expected \(2,\)"):
        step(position=torch.tensor([1, 2, 3]), norm_length=4)
    _, state = linear_attention_step(None, one, one, one)
    with pytest.raises(
        ValueError, match=r"state has sums of shape \(2, 1, 4, 4\), .* \(2, 1, 8, 4\)"
    ):
        cosformer_attention_step(state, one, one, one, position=1, norm_length=4)
    with pytest.raises(ValueError, match=r"state has sums of .*float64 .* expected .*float32"):
        linear_attention_step(LinearState(*(t.double() for t in state)), one, one, one)
    with pytest.raises(ValueError, match="state is a list, expected a LinearState or None"):
        linear_attention_step([1, 2], one, one, one)  # type: ignore[arg-type]


@pytest.mark.parametrize("feature_map", ["relu", "elu1"])
def test_a_linear_state_of_true_keys_serves_any_number_of_queries(feature_map: str) -> None:
    q, k, v, _ = draw((2, 3, 5, 9, 8, 4))
    k[1, :, 4:] = v[1, :, 4:] = math.nan
    lengths = torch.tensor([9, 4])
    state = linear_attention_state(None, k, v, feature_map=feature_map, key_lengths=lengths)  # type: ignore[arg-type]
    found = linear_attention_read(state, q, feature_map=feature_map)  # type: ignore[arg-type]
    want = linear_attention(q, k, v, feature_map=feature_map, key_lengths=lengths)  # type: ignore[arg-type]
    assert_close("o", found, want, 1e-12)


def test_a_state_goes_on_from_a_prefix_in_one_piece() -> None:
    q, k, v, _ = draw((2, 3, 12, 12, 8, 5))
    norms = torch.tensor([19, 40])
    want = cosformer_attention(q, k, v, norm_length=norms, causal=True)
    state = cosformer_attention_state(None, k[:, :, :7], v[:, :, :7], norm_length=norms)
    found = cosformer_attention_read(state, q[:, :, 6:7], position=6, norm_length=norms)
    assert_close("o", found, want[:, :, 6:7], 1e-12)
    rest = [each[:, :, 7:] for each in (k, v)]
    state = cosformer_attention_state(state, *rest, position=7, norm_length=norms)
    found = cosformer_attention_read(state, q[:, :, 11:], position=11, norm_length=norms)
    assert_close("o", found, want[:, :, 11:], 1e-12)


@pytest.mark.parametrize("copies", [1, 2, 3])
def test_copies_share_a_position(copies: int) -> None:
    q, k, v, _ = draw((2, 2, 4, 6, 4, 3))
    lengths, norms = torch.tensor([6, 3]), torch.tensor([8.0, 5.0])
    want = torch.zeros(2, 2, 4, 3, dtype=q.dtype)
    for b, h, i in torch.cartesian_prod(*map(torch.arange, (2, 2, 4))).tolist():
        at = torch.tensor([i - j // copies for j in range(int(lengths[b]))], dtype=q.dtype)
        seen = slice(len(at))
        scores = k[b, h, seen].relu() @ q[b, h, i].relu() * (math.pi / 2 * at / norms[b]).cos()
        want[b, h, i] = scores @ v[b, h, seen] / scores.sum().clamp(min=1e-6)
    k[1, :, 3:] = v[1, :, 3:] = math.nan
    given = {"key_lengths": lengths, "norm_length": norms}
    found = cosformer_attention_copies(q, k, v, copies=copies, **given)  # type: ignore[arg-type]
    assert_close("o", found, want, 1e-12)
    state = cosformer_attention_state(None, k, v, copies=copies, **given)
    beams = cosformer_attention_read(state, q[:, :, 3:], position=3, norm_length=norms)
    assert_close("o", beams, want[:, :, 3:], 1e-12)
    queries = torch.tensor([4, 2])
    q[1, :, 2:] = math.nan
    padded = cosformer_attention_copies(q, k, v, copies=copies, query_lengths=queries, **given)  # type: ignore[arg-type]
    want[1, :, 2:] = 0
    assert_close("o", padded, want, 1e-12)


def test_what_fits_no_state_is_named() -> None:
    x = torch.zeros(2, 1, 6, 4)
    remember = partial(cosformer_attention_state, None, x, x)
    with pytest.raises(ValueError, match="copies is 0, expected an integer of at least 1"):
        remember(norm_length=9, copies=0)
    with pytest.raises(ValueError, match="k has 6 tokens, expected a multiple of copies, 4"):
        remember(norm_length=9, copies=4)
    with pytest.raises(ValueError, match=r"position is 9.0, expected at most norm_length, 8.0"):
        remember(norm_length=8, position=4)
    with pytest.raises(ValueError, match=r"position is \[7.0, 9.0\], expected at most norm_le"):
        remember(norm_length=8, position=torch.tensor([2, 4]))
    remember(norm_length=8, position=4, key_lengths=torch.tensor([5, 0]))
    remember(norm_length=5, position=3, copies=2)
    with pytest.raises(ValueError, match="norm_length is None, expected a number"):
        remember(norm_length=None)  # type: ignore[arg-type]
    state = remember(norm_length=9)
    with pytest.raises(ValueError, match=r"state has total of shape \(2, 1, 8\), .* \(2, 1, 4\)"):
        linear_attention_read(state, x)
    with pytest.raises(ValueError, match=r"key_lengths is \[7, 1\], expected values in 0..6"):
        linear_attention_state(None, x, x, key_lengths=torch.tensor([7, 1]))
