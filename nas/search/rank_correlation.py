"""Do two scores put the same networks in the same order?"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def kendall_tau(one: Sequence[float], other: Sequence[float]) -> float | None:
    """Kendall's tau-b (1945), ties counted out; None where either list is all ties or too short."""
    upper = np.triu_indices(len(one), 1)
    signs = [np.sign(np.subtract.outer(each, each)[upper]) for each in (one, other)]
    agreeing = float(signs[0] @ signs[1])
    untied = math.prod(float(np.count_nonzero(each)) for each in signs)
    return agreeing / math.sqrt(untied) if untied else None
