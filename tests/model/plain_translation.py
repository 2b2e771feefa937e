"""What must a translation transformer compute? From the papers, one pair at a time, no padding.

Weights come as a mapping of names to tensors; nothing here knows of the package under test.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from tests.model.plain import Weights, mlp, norm, under


@dataclass(frozen=True)
class Layer:
    """The attention types of a layer, each with the most distant offset it tells apart."""

    attention: str
    cross_attention: str = ""
    cross_span: int = 1
    max_distance: int = 14


@dataclass(frozen=True)
class Recipe:
    """The choices that are not in the weights' shapes."""

    encoder: tuple[Layer, ...]
    decoder: tuple[Layer, ...]
    widths: tuple[int, int]
    norm: str = "layernorm"
    activation: str = "relu"
    position: str = "sinusoidal"
    embeddings: str = "shared"
    length_ratio: float = 1.5
    length_margin: int = 10


@dataclass(frozen=True)
class Pairs:
    """Which keys queries see, where these stand, and the length that positions are divided by."""

    causal: bool
    keys_a_place: int
    length: int


def scores(weights: Weights, source: Tensor, target: Tensor, recipe: Recipe) -> Tensor:
    """(T, V) of one source (S,) and the decoder's input (T,)."""
    tables = tables_of(weights, recipe)
    longest = math.ceil(recipe.length_ratio * len(source) + recipe.length_margin)
    layers = read(embedded(source, tables["source"], recipe, 0), weights, recipe)
    x = embedded(target, tables["target"], recipe, 1)
    for index, layer in enumerate(recipe.decoder):
        own = under(weights, f"decoder.layers.{index}.")
        hidden = norm(x, under(own, "attention_norm."), recipe.norm)
        pairs = Pairs(causal=True, keys_a_place=1, length=longest)
        x = x + attend(hidden, hidden, under(own, "attention."), layer.attention, layer, pairs)
        hidden = norm(x, under(own, "cross_attention_norm."), recipe.norm)
        seen = layers[-layer.cross_span :]
        memory = torch.stack([each[j] for j in range(len(source)) for each in seen])
        pairs = Pairs(causal=False, keys_a_place=len(seen), length=max(longest, len(source)))
        crossing = under(own, "cross_attention.")
        x = x + attend(hidden, memory, crossing, layer.cross_attention, layer, pairs)
        hidden = norm(x, under(own, "ffn_norm."), recipe.norm)
        x = x + mlp(hidden, under(own, "ffn."), recipe.activation)
    x = norm(x, under(weights, "outer.decoder_norm."), recipe.norm)
    return x @ tables["output"].T


def read(x: Tensor, weights: Weights, recipe: Recipe) -> list[Tensor]:
    """What every layer of the encoder gives, (S, D) each, under the encoder's last norm."""
    found = []
    pairs = Pairs(causal=False, keys_a_place=1, length=len(x))
    for index, layer in enumerate(recipe.encoder):
        own = under(weights, f"encoder.layers.{index}.")
        hidden = norm(x, under(own, "attention_norm."), recipe.norm)
        x = x + attend(hidden, hidden, under(own, "attention."), layer.attention, layer, pairs)
        hidden = norm(x, under(own, "ffn_norm."), recipe.norm)
        x = x + mlp(hidden, under(own, "ffn."), recipe.activation)
        found.append(norm(x, under(weights, "outer.encoder_norm."), recipe.norm))
    return found


def tables_of(weights: Weights, recipe: Recipe) -> Mapping[str, Tensor]:
    """Embeddings of source and target and the output map, as wide as their stack."""
    names = {
        "shared": ("embedding", "embedding", "embedding"),
        "tied": ("source_embedding", "target_embedding", "target_embedding"),
        "separate": ("source_embedding", "target_embedding", "output"),
    }[recipe.embeddings]
    wide = (recipe.widths[0], recipe.widths[1], recipe.widths[1])
    uses = zip(("source", "target", "output"), names, wide, strict=True)
    return {use: weights[f"outer.{name}.table"][:, :width] for use, name, width in uses}


def embedded(tokens: Tensor, table: Tensor, recipe: Recipe, stack: int) -> Tensor:
    """Table rows times sqrt(D), and sines and cosines of the position in turn."""
    width = recipe.widths[stack]
    rows = []
    for place, token in enumerate(tokens.tolist()):
        row = table[token] * math.sqrt(width)
        if recipe.position == "sinusoidal":
            angles = [place / 10_000 ** (2 * (i // 2) / width) for i in range(width)]
            wave = [math.cos(a) if i % 2 else math.sin(a) for i, a in enumerate(angles)]
            row = row + torch.tensor(wave, dtype=row.dtype)
        rows.append(row)
    return torch.stack(rows)


def attend(
    x: Tensor, memory: Tensor, own: Weights, kind: str, layer: Layer, pairs: Pairs
) -> Tensor:
    """(N, D) of queries x (N, D) over memory (S, D'), one head after the other."""
    mixed = own["o_bias"].expand(len(x), -1)
    for head in range(len(own["q_weight"])):
        q = x @ own["q_weight"][head].T + own["q_bias"][head]
        k, v = (memory @ own[f"{r}_weight"][head].T + own[f"{r}_bias"][head] for r in "kv")
        weights = weigh(q, k, own, kind, layer, pairs)
        out = weights @ v
        if kind == "softmax_relpos":
            for i in range(len(q)):
                for j in range(i + 1 if pairs.causal else len(k)):
                    out[i] = out[i] + weights[i, j] * own["offset_value"][entry(i, j, layer)]
        mixed = mixed + out @ own["o_weight"][:, head].T
    return mixed


def entry(i: int, j: int, layer: Layer) -> int:
    """Which entry of a table serves query i and key j."""
    return max(-layer.max_distance, min(layer.max_distance, j - i)) + layer.max_distance


def weigh(q: Tensor, k: Tensor, own: Weights, kind: str, layer: Layer, pairs: Pairs) -> Tensor:
    """(N, S) weights of a head, pair by pair: rows sum to one."""
    found = q.new_zeros(len(q), len(k))
    for i in range(len(q)):
        seen = range(i + 1 if pairs.causal else len(k))
        row = torch.stack([score(q[i], k[j], own, kind, layer, pairs, i, j) for j in seen])
        if kind.startswith("softmax"):
            row = torch.softmax(row, dim=0)
        else:
            row = row / row.sum().clamp(min=1e-6)
        found[i, : len(seen)] = row
    return found


def score(
    q: Tensor, k: Tensor, own: Weights, kind: str, layer: Layer, pairs: Pairs, i: int, j: int
) -> Tensor:
    """What query i makes of key j."""
    if kind == "softmax_relpos":
        k = k + own["offset_key"][entry(i, j, layer)]
    if kind.startswith("softmax"):
        return q @ k / math.sqrt(len(q))
    if kind == "linear(elu1)":
        q, k = (torch.where(each > 0, each + 1, each.clamp(max=0).exp()) for each in (q, k))
        return q @ k
    product = q.clamp(min=0) @ k.clamp(min=0)
    if kind == "cosformer":
        place = j // pairs.keys_a_place
        return product * math.cos(math.pi / 2 * (i - place) / pairs.length)
    return product
