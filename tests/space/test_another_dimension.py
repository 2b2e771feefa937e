"""Is a new dimension one field: nothing else of the room is told, and what was there stays?"""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from nas.errors import SpecError
from nas.space.architecture import Architecture
from nas.space.loader import load_space
from nas.space.search_space import SearchSpace
from tests.space.spaces import GIVEN, LAYERS, SHIPPED, SMALL

ROOT = Path(__file__).parents[2]
# The line that a developer would add to the layer, before any other module has seen it.
WITH_A_GATE = """
import dataclasses, json
from nas.space import layer
from nas.space.dimension import Word, dimension

@dataclasses.dataclass(frozen=True)
class EncoderLayer(layer.EncoderLayer):
    gate: str = dimension(Word(("none", "sigmoid")), "none")

layer.EncoderLayer = EncoderLayer
from tests.space.test_another_dimension import facts, use_the_gate
use_the_gate()
print(json.dumps(facts()))
"""
PLAIN = {**GIVEN, "patch_size": 1, "width": 16, "layers": {**LAYERS, "heads": 2}}


def facts() -> dict[str, list[str]]:
    """The digest of every space that knows no gate, and the ids of what is drawn from it."""
    found = {}
    for name, space in {**SMALL, **{each: load_space(each) for each in SHIPPED}}.items():
        rng = random.Random(0)
        drawn = [space.sample(rng) for _ in range(10)]
        drawn += [space.mutate(each, rng, 0.5) for each in drawn]
        drawn += [space.cross(*pair, rng) for pair in zip(drawn, drawn[10:], strict=False)]
        found[name] = [space.digest, *(each.id for each in drawn)]
    return found


def gated(*choices: str) -> SearchSpace:
    return load_space({**PLAIN, "layers": {**PLAIN["layers"], "gate": list(choices)}})


def use_the_gate() -> None:
    """Holds that a space with the choice is loaded, drawn from, changed, encoded and named."""
    plain, space = load_space(PLAIN), gated("none", "sigmoid")
    everything = set(space.enumerate())
    assert (plain.size, space.size, len(everything)) == (2 + 2**2, 4 + 4**2, 20)
    assert load_space(space.to_json()) == space
    assert space.digest != plain.digest
    # Where only the default may stand, nothing is said of it.
    assert gated("none") == plain
    assert gated("none").digest == plain.digest
    rng = random.Random(0)
    mutant = space.extreme("smallest")
    sampled, mutated = set[Architecture](), set[Architecture]()
    for _ in range(500):
        mutant = space.mutate(mutant, rng, 0.3)
        mutated.add(mutant)
        sampled.add(space.sample(rng))
    assert sampled == mutated == everything
    assert {space.decode(space.encode(each)) for each in everything} == everything
    assert {Architecture.from_json(each.to_json()) for each in everything} == everything
    assert len({each.id for each in everything}) == 20
    without = [each for each in everything if "gate" not in json.dumps(each.to_json())]
    assert {each.id for each in without} == {each.id for each in plain.enumerate()}


def test_a_new_dimension_is_one_field_and_old_ids_stay() -> None:
    with pytest.raises(SpecError, match="gate: unknown key"):
        gated("sigmoid")
    path = os.pathsep.join([str(ROOT), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-c", WITH_A_GATE],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == facts()
