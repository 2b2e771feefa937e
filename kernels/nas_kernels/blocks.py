"""How is a sequence cut into blocks by plain operators of torch, be its length known or not?"""

import torch
from torch import Tensor
from torch.nn import functional


def count(tokens: int, size: int) -> int:
    """Blocks of `size` that hold all tokens; two more for an exported program.

    There the number must be seen to be above 1, and with one taken off, for any length.
    """
    return tokens // size + 3 if torch.compiler.is_exporting() else -(-tokens // size)


def blocks(x: Tensor, number: int, size: int, before: int = 0, after: int = 0) -> Tensor:
    """(B, H, number, before + size + after, R) of (B, H, N, R): blocks, and tokens around each.

    Tokens that are missing are zero, those beyond the last block are left out.
    """
    if torch.compiler.is_compiling():
        # Padding by none keeps strides when it runs, and in a traced graph is taken not to.
        x = x.contiguous()
    padded = functional.pad(x, (0, 0, before, number * size + after - x.shape[2]))
    # By windows, and not by a reshape: that must divide a length which is not known yet.
    return padded.unfold(2, before + size + after, size).transpose(-1, -2)


def joined(x: Tensor, tokens: int) -> Tensor:
    """(B, H, tokens, R) of blocks (B, H, number, size, R): the first of their tokens."""
    flat = x.flatten(2, 3)
    if torch.compiler.is_exporting():
        # A slice would have to be seen to be within the blocks for any length.
        return flat.index_select(2, torch.arange(tokens, device=x.device))
    return flat[:, :, :tokens]
