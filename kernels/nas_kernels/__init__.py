"""How is the arithmetic done? Attention operators as plain functions of tensors."""

from nas_kernels.cosformer.torch_form import cosformer_attention
from nas_kernels.linear_attention.reference import FeatureMap
from nas_kernels.linear_attention.torch_form import linear_attention

__all__ = ["FeatureMap", "cosformer_attention", "linear_attention"]
