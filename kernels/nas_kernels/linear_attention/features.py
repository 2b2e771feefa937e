"""How do tokens' positions enter their features? Turned by an angle, as cosFormer weighs them."""

import math

import torch
from torch import Tensor


def turned(x: Tensor, norm: Tensor, at: Tensor | None = None) -> Tensor:
    """(B, H, N, 2 K) of phi(x) (B, H, N, K): [x cos a ; x sin a], token i's angle a = pi i / (2 M).

    norm is M of each row, (B,) or (1,); at, (B, N) or what is broadcast to it, is where the tokens
    stand, None means 0 to N - 1. cos(a - b) = cos a cos b + sin a sin b: each half of the features
    is one term.
    """
    if at is None:
        at = torch.arange(x.shape[2], device=x.device, dtype=x.dtype)
    table = turns(at, norm[:, None].to(x.dtype))[:, None].repeat_interleave(x.shape[3], dim=-1)
    return torch.cat([x, x], dim=-1) * table


def turns(at: Tensor, norm: Tensor) -> Tensor:
    """(..., 2): cos a and sin a of positions, a = pi at / (2 M); at and M are broadcast."""
    # Who stands beyond M is padding, or M was not to be seen: no weight turns negative.
    at = torch.minimum(at, norm)
    # From the nearer end, where a cosine is small: rounding an angle near pi/2 would tell.
    angles = torch.stack([norm - at, at], dim=-1)
    return (angles * (math.pi / 2 / norm[..., None])).sin()
