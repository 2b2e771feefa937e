"""Softmax attention with relative positions of keys and values (Shaw et al., 2018)."""

from __future__ import annotations

from typing import Any

from nas.errors import SpecError
from nas.operators.attention import offsets
from nas.operators.attention.pairs import is_causal, later, pair_macs, without_padding
from nas.operators.declaration import (
    Attention,
    AttentionContext,
    Grid,
    Option,
    Options,
    Own,
    Parameter,
    Site,
    Sizes,
)


class SoftmaxRelpos(Attention):
    """Scores q_i . (k_j + a_ij) / sqrt(d), values v_j + b_ij, for tokens on a grid or in a row.

    On a grid a_ij = row_key[clip(r_j - r_i)] + column_key[clip(c_j - c_i)], b_ij alike from the
    value tables; entry 0 serves pairs with a class token (Chen et al., AutoFormer, ICCV 2021). In a
    sequence a_ij = offset_key[clip(j - i)], without entries for what no token sees. Tables are
    shared by the heads and sliced by head width. Offsets differ only between grid lines, and in a
    sequence up to max_distance, so each table is applied once a line or offset, not once a pair.
    """

    name = "softmax_relpos"
    sites: frozenset[Site] = frozenset({"encoder_self", "decoder_self"})
    efficient = False
    options = {  # noqa: RUF012
        "max_distance": Option(14, minimum=1, description="offsets beyond it are clipped")
    }

    def parameters(self, options: Options, sizes: Sizes) -> dict[str, Parameter]:
        limit = int(options["max_distance"])
        if not sizes["side"]:
            entries = limit + 1 if sizes["causal"] else 2 * limit + 1
            names: tuple[str, ...] = ("offset_key", "offset_value")
        else:
            entries = 2 * limit + 2
            names = ("row_key", "column_key", "row_value", "column_value")
        return {name: Parameter((entries, "head_width"), init="normal") for name in names}

    def core_macs(self, sizes: Sizes, options: Options) -> int:
        tokens, leading, side = sizes["tokens"], sizes["leading"], sizes["side"]
        if side:
            lines = 4 * (tokens - leading) * side
            apart = lines + (2 * tokens if leading else 0)
        else:
            apart = 2 * tokens * _rows(sizes, options)
        return (pair_macs(sizes) + apart) * sizes["heads"] * sizes["head_width"]

    def core_activations(self, sizes: Sizes, options: Options) -> int:
        tokens = sizes["tokens"]
        scores = tokens * sizes["keys"]
        if not sizes["side"]:
            # Scores and weights, and these in rows of offsets, which are twice as long, twice.
            return 6 * scores * sizes["heads"]
        # Scores, their offsets by lines and by pairs, and a copy of these or the sum of both.
        adding = 3 * scores + 2 * tokens * sizes["side"]
        # Later scores and weights, and the terms of the output, which are summed in pairs.
        summing = 2 * scores + (5 if sizes["leading"] else 4) * tokens * sizes["head_width"]
        return sizes["heads"] * max(adding, summing)

    def attend(
        self, q: Any, k: Any, v: Any, own: Own, options: Options, context: AttentionContext
    ) -> Any:
        import torch

        grid, limit = context.grid, int(options["max_distance"])
        if grid is not None and context.site != "encoder_self":
            raise SpecError(
                f"attention {self.name!r} is given a grid at {context.site}; a sequence is allowed"
            )
        k, v, unseen = without_padding(q, k, v, context)
        if is_causal(q, k, context):
            unseen = later(q, k) if unseen is None else unseen | later(q, k)
        if context.position is not None:
            # Each query alone is the last token.
            q, k, v = q[:, :, :, None], k[:, :, None], v[:, :, None]
        q = q * q.shape[-1] ** -0.5
        scores = q @ k.transpose(-2, -1)
        if grid is None:
            scores = scores + offsets.key_scores(q, own["offset_key"], limit, k.shape[-2])
        else:
            scores = scores + _key_scores(q, own, grid, limit)
        if unseen is not None:
            # The least number and not -inf: a row without any key has weights of zero, not of NaN.
            scores = scores.masked_fill(unseen, torch.finfo(scores.dtype).min)
        weights: Any = torch.softmax(scores, dim=-1)
        if unseen is not None:
            weights = weights.masked_fill(unseen, 0)
        if grid is None:
            moved = offsets.weighted_values(weights, own["offset_value"], limit)
        else:
            moved = _weighted_offsets(weights, own, grid, limit)
        found = weights @ v + moved
        return found if context.position is None else found[:, :, :, 0]


def _rows(sizes: Sizes, options: Options) -> int:
    """How many offsets the tokens of a sequence stand apart, clipped."""
    reach = min(int(options["max_distance"]), sizes["keys"] - 1)
    return reach + 1 if sizes["causal"] else 2 * reach + 1


def _between(lines: int, table: Any, limit: int) -> Any:
    """(lines, lines, K): the table's rows for every pair of grid lines."""
    import torch

    line = torch.arange(lines, device=table.device)
    offset = (line[None, :] - line[:, None]).clamp(-limit, limit)
    return table[offset + limit + 1]


def _key_scores(q: Any, own: Own, grid: Grid, limit: int) -> Any:
    """q_i . a_ij of scaled queries (B, H, N, K): (B, H, N, N)."""
    import torch

    lead = grid.leading
    q_grid = q[..., lead:, :].unflatten(-2, (grid.rows, grid.columns))
    rows = _between(grid.rows, own["row_key"], limit)
    columns = _between(grid.columns, own["column_key"], limit)
    row = torch.einsum("bhrck,rsk->bhrcs", q_grid, rows)
    column = torch.einsum("bhrck,ctk->bhrct", q_grid, columns)
    bias = (row[..., :, None] + column[..., None, :]).flatten(-2).flatten(2, 3)
    if not lead:
        return bias
    class_key = (own["row_key"][:1] + own["column_key"][:1]).transpose(0, 1)
    to_class = q @ class_key
    bias = torch.cat([to_class[..., lead:, :].expand(-1, -1, -1, lead), bias], dim=-1)
    from_class = to_class[..., :lead, :].expand(-1, -1, -1, bias.shape[-1])
    return torch.cat([from_class, bias], dim=-2)


def _weighted_offsets(weights: Any, own: Own, grid: Grid, limit: int) -> Any:
    """sum_j w_ij b_ij of weights (B, H, N, N): (B, H, N, K)."""
    import torch

    lead, patches = grid.leading, (grid.rows, grid.columns)
    p_grid = weights[..., lead:, lead:].unflatten(-1, patches).unflatten(2, patches)
    rows = _between(grid.rows, own["row_value"], limit)
    columns = _between(grid.columns, own["column_value"], limit)
    moved = torch.einsum("bhrcs,rsk->bhrck", p_grid.sum(-1), rows) + torch.einsum(
        "bhrct,ctk->bhrck", p_grid.sum(-2), columns
    )
    moved = moved.flatten(2, 3)
    if not lead:
        return moved
    class_value = own["row_value"][:1] + own["column_value"][:1]
    # A class token's own row is all class pairs, so the class entry serves all of its weights.
    share = torch.cat(
        [weights[..., :lead, :].sum(-1, True), weights[..., lead:, :lead].sum(-1, True)], -2
    )
    nothing = moved.new_zeros(*moved.shape[:2], lead, moved.shape[-1])
    return torch.cat([nothing, moved], dim=-2) + share @ class_value


SOFTMAX_RELPOS = SoftmaxRelpos()
