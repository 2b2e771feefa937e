"""Softmax attention with 2-D relative positions of keys and values (Shaw et al., 2018)."""

from __future__ import annotations

from typing import Any

from nas.operators.declaration import Grid, Option, Options, Own, Parameter, Site, Sizes


class SoftmaxRelpos:
    """Scores q_i . (k_j + a_ij) / sqrt(d), values v_j + b_ij, for tokens on a grid.

    a_ij = row_key[clip(r_j - r_i)] + column_key[clip(c_j - c_i)], b_ij alike from the value tables;
    tables are shared by the heads and sliced by head width, entry 0 serves pairs with a class token
    (Chen et al., AutoFormer, ICCV 2021). Offsets differ only between grid lines, so each table is
    applied once a line (N x side x d) instead of once a pair (N x N x d).
    """

    name = "softmax_relpos"
    sites: frozenset[Site] = frozenset({"encoder_self"})
    efficient = False
    options = {  # noqa: RUF012
        "max_distance": Option(14, minimum=1, description="offsets beyond it are clipped")
    }

    def parameters(self, options: Options) -> dict[str, Parameter]:
        entries = 2 * int(options["max_distance"]) + 2
        names = ("row_key", "column_key", "row_value", "column_value")
        return {name: Parameter((entries, "head_width"), init="normal") for name in names}

    def core_macs(self, sizes: Sizes, options: Options) -> int:  # noqa: ARG002
        tokens, leading, side = sizes["tokens"], sizes["leading"], sizes["side"]
        pairs = 2 * tokens * sizes["keys"]
        lines = 4 * (tokens - leading) * side
        class_pairs = 2 * tokens if leading else 0
        return (pairs + lines + class_pairs) * sizes["heads"] * sizes["head_width"]

    def core_activations(self, sizes: Sizes, options: Options) -> int:  # noqa: ARG002
        scores = 2 * sizes["tokens"] * sizes["keys"]
        return sizes["heads"] * (scores + 2 * sizes["tokens"] * sizes["side"])

    def attend(self, q: Any, k: Any, v: Any, own: Own, options: Options, grid: Grid) -> Any:
        import torch

        limit, lead = int(options["max_distance"]), grid.leading

        def between(lines: int, table: Any) -> Any:
            """(lines, lines, K): the table's rows for every pair of grid lines."""
            line = torch.arange(lines, device=q.device)
            offset = (line[None, :] - line[:, None]).clamp(-limit, limit)
            return table[offset + limit + 1]

        q = q * q.shape[-1] ** -0.5
        scores = q @ k.transpose(-2, -1)
        patches = (grid.rows, grid.columns)
        q_grid = q[..., lead:, :].unflatten(-2, patches)
        row = torch.einsum("bhrck,rsk->bhrcs", q_grid, between(grid.rows, own["row_key"]))
        column = torch.einsum("bhrck,ctk->bhrct", q_grid, between(grid.columns, own["column_key"]))
        bias = (row[..., :, None] + column[..., None, :]).flatten(-2).flatten(2, 3)
        if lead:
            class_key = (own["row_key"][:1] + own["column_key"][:1]).transpose(0, 1)
            to_class = q @ class_key
            bias = torch.cat([to_class[..., lead:, :].expand(-1, -1, -1, lead), bias], dim=-1)
            from_class = to_class[..., :lead, :].expand(-1, -1, -1, bias.shape[-1])
            bias = torch.cat([from_class, bias], dim=-2)
        weights: Any = torch.softmax(scores + bias, dim=-1)
        out = weights @ v

        p_grid = weights[..., lead:, lead:].unflatten(-1, patches).unflatten(2, patches)
        moved = torch.einsum(
            "bhrcs,rsk->bhrck", p_grid.sum(-1), between(grid.rows, own["row_value"])
        ) + torch.einsum(
            "bhrct,ctk->bhrck", p_grid.sum(-2), between(grid.columns, own["column_value"])
        )
        moved = moved.flatten(2, 3)
        if lead:
            class_value = own["row_value"][:1] + own["column_value"][:1]
            # A class token's own row is all class pairs, so its weights sum to one.
            share = torch.cat(
                [weights[..., :lead, :].sum(-1, True), weights[..., lead:, :lead].sum(-1, True)], -2
            )
            nothing = moved.new_zeros(*moved.shape[:2], lead, moved.shape[-1])
            moved = torch.cat([nothing, moved], dim=-2) + share @ class_value
        return out + moved


SOFTMAX_RELPOS = SoftmaxRelpos()
