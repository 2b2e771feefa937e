"""Which tensors may an attention operator be given, which keys count, in which dtype are sums?"""

import torch
from torch import Tensor


def check_inputs(q: Tensor, k: Tensor, v: Tensor, lengths: Tensor | None) -> None:
    """Refuse what is not q (B, H, N, K), k (B, H, S, K), v (B, H, S, V), lengths (B,) in 0..S.

    Lengths that lie on an accelerator are read back for the check, which waits for the device once;
    lengths in host memory are checked without waiting.

    Raises:
        ValueError: a shape, dtype or length that does not fit; the message says got and expected.
    """
    if q.dim() != 4:
        raise ValueError(f"q has shape {tuple(q.shape)}, expected (B, H, N, K)")
    batch, heads, _, width = q.shape
    if k.dim() != 4 or (*k.shape[:2], k.shape[3]) != (batch, heads, width):
        expected = f"({batch}, {heads}, S, {width})"
        raise ValueError(f"k has shape {tuple(k.shape)}, expected {expected} to fit q")
    if v.dim() != 4 or v.shape[:3] != k.shape[:3]:
        expected = f"({batch}, {heads}, {k.shape[2]}, V)"
        raise ValueError(f"v has shape {tuple(v.shape)}, expected {expected} to fit k")
    if not (q.dtype == k.dtype == v.dtype and q.is_floating_point()):
        dtypes = f"{q.dtype}, {k.dtype}, {v.dtype}"
        raise ValueError(f"q, k, v have dtypes {dtypes}, expected one floating dtype")
    if lengths is None:
        return
    if lengths.shape != (batch,):
        raise ValueError(f"lengths has shape {tuple(lengths.shape)}, expected ({batch},)")
    if lengths.is_floating_point() or lengths.is_complex() or lengths.dtype == torch.bool:
        raise ValueError(f"lengths has dtype {lengths.dtype}, expected an integer dtype")
    if bool(((lengths < 0) | (lengths > k.shape[2])).any()):
        raise ValueError(f"lengths is {lengths.tolist()}, expected values in 0..{k.shape[2]}")


def padding_of(lengths: Tensor, k: Tensor) -> Tensor:
    """(B, 1, S, 1) bool, true where a key of k (B, H, S, K) lies at its row's length or beyond."""
    positions = torch.arange(k.shape[2], device=k.device)
    return positions[:, None] >= lengths.to(k.device, non_blocking=True)[:, None, None, None]


def sum_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype of sums: fp32 for half precision, whose sums lose accuracy, else the same."""
    return torch.promote_types(dtype, torch.float32)
