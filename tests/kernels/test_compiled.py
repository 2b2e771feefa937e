"""Would the Triton kernels compile and start on a GPU? Compiled for one without having it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

# Triton's interpreter compiles nothing, and this process may have chosen it.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
ROOT = Path(__file__).parents[2]
LARGEST_PROGRAM = 99 * 1024
"""Bytes of shared memory that one program may have on capability 8.6, the least of any."""


def run(*command: str, cache: Path) -> str:
    """What a fresh Python says, with the checkout's packages and a compiler's cache of its own."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "kernels")])
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False,
        env=ENVIRONMENT | {"PYTHONPATH": path, "TRITON_CACHE_DIR": str(cache)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "width"), [("bf16", 64), ("fp32", 256)])
def test_every_kernel_compiles_and_fits_the_smallest_gpu(
    dtype: str, width: int, tmp_path: Path
) -> None:
    out = tmp_path / "resources.json"
    options = ["--capability", "8.6", "--dtypes", dtype, "--widths", str(width)]
    # Linear attention is cosFormer's kernels with less in them.
    options += ["--operators", "cosformer", "window", "--out", str(out)]
    run("benchmarks/kernel_resources.py", *options, cache=tmp_path)
    found = json.loads(out.read_text(encoding="utf-8"))["kernels"]
    assert len({each["kernel"] for each in found}) == 8
    for each in found:
        assert each["shared"] <= LARGEST_PROGRAM, each


@pytest.mark.slow
def test_the_compiler_sees_the_kernels_in_both_passes(tmp_path: Path) -> None:
    found = json.loads(run("tests/kernels/traced.py", cache=tmp_path))
    assert found == {
        "linear, causal=False": [1, 4, 3],
        "linear, causal=True": [1, 4, 3],
        "cosformer, causal=False": [1, 4, 3],
        "cosformer, causal=True": [1, 4, 3],
        "window, causal=False": [1, 3, 2],
        "window, causal=True": [1, 3, 2],
    }
