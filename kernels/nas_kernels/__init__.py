"""How is the arithmetic done? Attention operators as plain functions of tensors."""

from nas_kernels.cosformer.copies import cosformer_attention_copies
from nas_kernels.cosformer.decoding import (
    cosformer_attention_read,
    cosformer_attention_state,
    cosformer_attention_step,
)
from nas_kernels.cosformer.operator import cosformer_attention
from nas_kernels.dispatch import Backend, explain
from nas_kernels.linear_attention.decoding import (
    LinearState,
    linear_attention_read,
    linear_attention_state,
    linear_attention_step,
)
from nas_kernels.linear_attention.operator import linear_attention
from nas_kernels.linear_attention.reference import FeatureMap
from nas_kernels.window_attention.operator import window_attention

__all__ = [
    "Backend",
    "FeatureMap",
    "LinearState",
    "cosformer_attention",
    "cosformer_attention_copies",
    "cosformer_attention_read",
    "cosformer_attention_state",
    "cosformer_attention_step",
    "explain",
    "linear_attention",
    "linear_attention_read",
    "linear_attention_state",
    "linear_attention_step",
    "window_attention",
]
