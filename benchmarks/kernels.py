"""What do the attention kernels cost beside SDPA? Forward, and forward with backward, in turns.

On a GPU in bf16, B x T = 65,536 tokens, H x K = 512 and 1024: cosFormer and linear attention by
Triton, bidirectional and causal, over torch's SDPA, the eager formula (to T = 1024) and, where
flash-linear-attention is installed, its linear attention and retention on ready-made features; then
bytes moved once over measured copy bandwidth, and peak memory. On a CPU: the torch form over SDPA,
one thread, CPU time. Nothing is timed before its output and gradients are those of the definition
(to 300 tokens) and, on a GPU, those of the torch form at the shape that is timed.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from benchmarks.measuring.pairs import Paired, compare
from benchmarks.measuring.report import machine, parser, print_table, write
from nas_kernels import cosformer_attention, linear_attention
from nas_kernels.testing import assert_close

TOKENS = {"cuda": 65_536, "cpu": 4096}
"""B x T: the same work at each length, and enough of it that a call's own cost does not tell."""
WIDTHS = (512, 1024)
HEAD_WIDTHS = [32, 64, 128]
LENGTHS = [64, 128, 197, 256, 512, 1024, 2048, 4096, 16_384]
CPU_LENGTHS = [64, 128, 256, 512, 1024, 2048]
LONGEST_EAGER = 1024
BOUNDS = {torch.bfloat16: 1e-2, torch.float32: 1e-5}

Core = Callable[[Tensor, Tensor, Tensor], Tensor]
Once = Callable[[int], object]


@dataclass(frozen=True)
class Shape:
    """One point of the table; q, k and v are (B, H, T, K)."""

    batch: int
    heads: int
    length: int
    head_width: int

    def draw(self, device: str, dtype: torch.dtype) -> list[Tensor]:
        """q, k, v and an output gradient."""
        torch.manual_seed(0)
        size = (self.batch, self.heads, self.length, self.head_width)
        return [torch.randn(size, device=device, dtype=dtype) for _ in range(4)]


OURS: dict[bool, dict[str, Core]] = {
    causal: {
        "cosformer": partial(cosformer_attention, causal=causal),
        "linear": partial(linear_attention, causal=causal),
    }
    for causal in (False, True)
}
"""Our operators, bidirectional and causal, in the form that `auto` takes on the tensors' device."""


@dataclass(frozen=True)
class Rival:
    """Another implementation, and how it wants q, k, v and the output gradient (not timed)."""

    core: Core
    given: Callable[[list[Tensor]], list[Tensor]] = list


def others(name: str, shape: Shape, causal: bool) -> dict[str, Rival]:
    """What there is to compare with at this shape."""
    found = {"SDPA": Rival(partial(scaled_dot_product_attention, is_causal=causal))}
    if shape.length <= LONGEST_EAGER:
        found["eager"] = Rival(partial(eager, causal=causal))
    if causal and _has_fla():
        given = partial(as_fla_has_them, turned=name == "cosformer")
        found["fla"] = Rival(fla_linear_attention, given)
        found["fla retention"] = Rival(fla_retention, given)
    return found


def eager(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
    """cosFormer's formula over all pairs, as its public code has it."""
    tokens = torch.arange(q.shape[2], device=q.device)
    weights = torch.cos(math.pi / 2 * (tokens[:, None] - tokens) / q.shape[2])
    scores = (q.relu() @ k.relu().transpose(-1, -2)) * weights.to(q.dtype)
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


def check(core: Core, shape: Shape, device: str, dtype: torch.dtype) -> None:
    """Raises `AssertionError` where output or gradients are not those of the definition."""
    agree(core, "reference", Shape(1, 2, min(shape.length, 300), shape.head_width), device, dtype)
    if device != "cpu":
        agree(core, "torch", shape, device, dtype)


@cache
def agree(core: Core, backend: str, shape: Shape, device: str, dtype: torch.dtype) -> None:
    """Raises `AssertionError` where a core differs from another of its forms, taken in fp32."""
    *tensors, grad = shape.draw(device, dtype)
    fast = [each.clone().requires_grad_() for each in tensors]
    slow = [each.float().requires_grad_() for each in tensors]
    got, want = core(*fast), core(*slow, backend=backend)  # type: ignore[call-arg]
    assert_close("o", got, want, BOUNDS[dtype])
    found = torch.autograd.grad(got, fast, grad)
    wanted = torch.autograd.grad(want, slow, grad.float())
    for name, one, other in zip("qkv", found, wanted, strict=True):
        assert_close(f"d{name}", one, other, BOUNDS[dtype])


def timed(core: Core, tensors: list[Tensor], backward: bool) -> Once:
    """One call, finished on the device when it returns."""
    *inputs, grad = tensors
    inputs = [each.detach().requires_grad_(backward) for each in inputs]

    def once(_: int) -> None:
        out = core(*inputs)
        if backward:
            torch.autograd.grad(out, inputs, grad)
        if grad.is_cuda:
            torch.cuda.synchronize()

    return once


def peak(call: Once) -> float:
    """Bytes that one call holds at most beside what was there; NaN off a GPU."""
    if not torch.cuda.is_available():
        return math.nan
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call(0)
    return float(torch.cuda.max_memory_allocated() - before)


def copy_bandwidth() -> float:
    """Bytes a second that a copy of 1 GiB reads and writes, median of 20."""
    given = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
    taken = torch.empty_like(given)
    seconds = []
    for _ in range(25):
        torch.cuda.synchronize()
        start = time.perf_counter()
        taken.copy_(given)
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return 2 * given.numel() / sorted(seconds[5:])[10]


def least_bytes(tensors: list[Tensor], backward: bool) -> int:
    """q, k, v read and o written once; backward also g and o read and dq, dk, dv written."""
    one = tensors[0].numel() * tensors[0].element_size()
    return one * (4 + (8 if backward else 0))


def shapes(device: str, lengths: list[int], head_widths: list[int]) -> Iterator[Shape]:
    """Every point of the table on this device."""
    for width in WIDTHS if device == "cuda" else WIDTHS[:1]:
        for head_width in head_widths:
            for length in lengths:
                batch = max(1, TOKENS[device] // length)
                yield Shape(batch, width // head_width, length, head_width)


def measure(shape: Shape, device: str, pairs: int, bandwidth: float) -> Iterator[dict[str, Any]]:
    """One record for each of our operators, direction and rival."""
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    clock = time.process_time if device == "cpu" else time.perf_counter
    tensors = shape.draw(device, dtype)
    for causal in (False, True):
        for name, core in OURS[causal].items():
            check(core, shape, device, dtype)
            for backward in (False, True):
                mine = timed(core, tensors, backward)
                held = peak(mine)
                for other, rival in others(name, shape, causal).items():
                    theirs = timed(rival.core, rival.given(tensors), backward)
                    found: Paired = compare(mine, theirs, pairs, clock=clock)
                    yield {
                        "operator": name,
                        "causal": causal,
                        "backward": backward,
                        "rival": other,
                        **vars(shape),
                        **found.to_json(),
                        "peak_bytes": held,
                        "over_floor": found.a_ms
                        * 1e-3
                        * bandwidth
                        / least_bytes(tensors, backward),
                    }


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--pairs", type=int, default=10)
    arguments.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments.add_argument("--lengths", type=int, nargs="+")
    arguments.add_argument("--head-widths", type=int, nargs="+")
    given = arguments.parse_args()
    on_cpu = given.device == "cpu"
    if on_cpu:
        torch.set_num_threads(1)
    lengths = given.lengths or (CPU_LENGTHS if on_cpu else LENGTHS)
    head_widths = given.head_widths or ([64] if on_cpu else HEAD_WIDTHS)
    bandwidth = math.nan if on_cpu else copy_bandwidth()
    found: list[dict[str, Any]] = []
    for shape in shapes(given.device, lengths, head_widths):
        found += measure(shape, given.device, given.pairs, bandwidth)
        print(".", end="", file=sys.stderr, flush=True)
    print_table(
        f"Ours over another's time, {given.pairs} pairs; a copy moves {bandwidth / 1e12:.2f} TB/s",
        (
            *("operator", "causal", "pass", "H x K", "K", "T", "over"),
            *("ms", "ratio", "quartiles", "over floor", "peak, MB"),
        ),
        [
            (
                each["operator"],
                "yes" if each["causal"] else "no",
                "both" if each["backward"] else "forward",
                str(each["heads"] * each["head_width"]),
                str(each["head_width"]),
                str(each["length"]),
                each["rival"],
                f"{each['a_ms']:.3f}",
                f"{each['ratio']:.2f}",
                f"{each['lower_quartile']:.2f} to {each['upper_quartile']:.2f}",
                f"{each['over_floor']:.2f}",
                f"{each['peak_bytes'] / 1e6:.0f}",
            )
            for each in found
        ],
    )
    write(
        given.out,
        {"machine": machine(given.device), "copy_bandwidth": bandwidth, "figures": found},
    )


if __name__ == "__main__":
    main()
