"""With what are linear attention and cosFormer compared? SDPA, their own formulas, and fla."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from benchmarks.measuring.attention_calls import Core

SDPA = "SDPA"
LONGEST_EAGER = 1024
"""Tokens; beyond, the T x T scores of 65,536 tokens take most of a GPU."""


@dataclass(frozen=True)
class Rival:
    """Another implementation, and how it wants q, k, v and the output gradient (not timed)."""

    core: Core
    given: Callable[[list[Tensor]], list[Tensor]] = list


def rivals(operator: str, length: int, causal: bool) -> dict[str, Rival]:
    """By name, what there is to compare an operator with, `linear` or `cosformer`."""
    cosformer = operator == "cosformer"
    found = {SDPA: Rival(partial(scaled_dot_product_attention, is_causal=causal))}
    if length <= LONGEST_EAGER:
        formula = eager_cosformer if cosformer else eager_linear
        found["eager"] = Rival(partial(formula, causal=causal))
    if causal and _has_fla():
        given = partial(as_fla_has_them, turned=cosformer)
        found["fla"] = Rival(fla_linear_attention, given)
        found["fla retention"] = Rival(fla_retention, given)
    return found


def eager_linear(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
    """Linear attention's formula over all pairs of tokens."""
    return _weighted_mean(q.relu() @ k.relu().transpose(-1, -2), v, causal)


def eager_cosformer(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
    """cosFormer's formula over all pairs of tokens, M = T."""
    tokens = torch.arange(q.shape[2], device=q.device)
    weights = torch.cos(math.pi / 2 * (tokens[:, None] - tokens) / q.shape[2])
    scores = (q.relu() @ k.relu().transpose(-1, -2)) * weights.to(q.dtype)
    return _weighted_mean(scores, v, causal)


def _weighted_mean(scores: Tensor, v: Tensor, causal: bool) -> Tensor:
    scores = scores.tril() if causal else scores
    return (scores / scores.sum(-1, keepdim=True).clamp(min=1e-6)) @ v


def as_fla_has_them(tensors: list[Tensor], turned: bool) -> list[Tensor]:
    """(B, T, H, K), q and k as features: relu, and for cosFormer turned by their angles, 2 K."""
    q, k, *others = tensors
    features = [q.relu(), k.relu()]
    if turned:
        angles = torch.arange(q.shape[2], device=q.device) * (math.pi / 2 / q.shape[2])
        parts = [each.to(q.dtype)[:, None] for each in (angles.cos(), angles.sin())]
        features = [torch.cat([x * part for part in parts], dim=-1) for x in features]
    return [each.transpose(1, 2).contiguous() for each in (*features, *others)]


def fla_linear_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """flash-linear-attention's causal linear attention."""
    from fla.ops.linear_attn import chunk_linear_attn

    out: Tensor = chunk_linear_attn(q, k, v, scale=1.0, normalize=True)[0]
    return out


def fla_retention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Its retention, which has no normaliser."""
    from fla.ops.retention import chunk_retention

    out: Tensor = chunk_retention(q, k, v, scale=1.0)[0]
    return out


def _has_fla() -> bool:
    try:
        import fla  # noqa: F401
    except ImportError:
        return False
    return True
