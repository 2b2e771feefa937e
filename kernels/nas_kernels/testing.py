"""Is this tensor the one the reference gives? One number a tensor, named in the message."""

import torch
from torch import Tensor


def relative_rms(got: Tensor, want: Tensor, least: float = 0.0) -> float:
    """RMS of got - want over RMS of want (`least` where that is larger), in fp64.

    0 if they are equal, inf if only want is 0 and `least` is.
    """
    if torch.equal(got, want):
        return 0.0
    size = max(rms(want), least)
    return rms(got.detach().double() - want.detach().double()) / size if size else float("inf")


def rms(tensor: Tensor) -> float:
    """The root of the mean of the squares, in fp64."""
    return float(tensor.detach().double().square().mean().sqrt())


def assert_close(name: str, got: Tensor, want: Tensor, bound: float, *, least: float = 0.0) -> None:
    """Assert that got has want's shape, is finite and lies within bound of it in relative RMS.

    `least` is the size that want counts as at least: where its terms cancel, their rounding is all
    that is left to compare.

    Raises:
        AssertionError: naming the tensor, the error found and the bound.
    """
    if got.shape != want.shape:
        raise AssertionError(f"{name}: shape {tuple(got.shape)}, want {tuple(want.shape)}")
    for label, tensor in (("got", got), ("want", want)):
        bad = int((~torch.isfinite(tensor)).sum())
        if bad:
            raise AssertionError(f"{name}: {bad} of {tensor.numel()} values of {label} not finite")
    error = relative_rms(got, want, least)
    if not error <= bound:
        raise AssertionError(f"{name}: relative RMS error {error:.3g}, bound {bound:.3g}")
