"""Is this tensor the one the reference gives? One number a tensor, named in the message."""

import torch
from torch import Tensor


def relative_rms(got: Tensor, want: Tensor) -> float:
    """RMS of got - want over RMS of want, in fp64; 0 if they are equal, inf if only want is 0."""
    if torch.equal(got, want):
        return 0.0
    exact = want.detach().double()
    difference = (got.detach().double() - exact).square().mean().sqrt()
    return float(difference / exact.square().mean().sqrt())


def assert_close(name: str, got: Tensor, want: Tensor, bound: float) -> None:
    """Assert that got has want's shape, is finite and lies within bound of it in relative RMS.

    Raises:
        AssertionError: naming the tensor, the error found and the bound.
    """
    if got.shape != want.shape:
        raise AssertionError(f"{name}: shape {tuple(got.shape)}, want {tuple(want.shape)}")
    for label, tensor in (("got", got), ("want", want)):
        bad = int((~torch.isfinite(tensor)).sum())
        if bad:
            raise AssertionError(f"{name}: {bad} of {tensor.numel()} values of {label} not finite")
    error = relative_rms(got, want)
    if not error <= bound:
        raise AssertionError(f"{name}: relative RMS error {error:.3g}, bound {bound:.3g}")
