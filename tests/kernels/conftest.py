"""Triton's kernels run by its interpreter where there is no GPU; said before any is imported."""

import os

import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")
