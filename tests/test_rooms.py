"""Does the tree keep its own rules, and would a breach of any of them be seen?"""

import re
import subprocess
import sys
from importlib.machinery import PathFinder
from pathlib import Path

import pytest

from tests.rooms import (
    BARE_GPU_BOX,
    NOT_ON_A_GPU_BOX,
    SERVING,
    SOURCE_ROOTS,
    STOREYS,
    Checkout,
    loads_no_torch,
    room,
    violations,
)

ROOT = Path(__file__).resolve().parent.parent

# A small tree that uses every liberty the rules leave.
LAWFUL = {
    "nas/__init__.py": '''
        """The public face."""
        import importlib
        from typing import TYPE_CHECKING, Any
        if TYPE_CHECKING:
            from nas.run.search import run_search
        __all__ = ["run_search"]
        def __getattr__(name: str) -> Any:
            return getattr(importlib.import_module("nas.run.search"), name)
        ''',
    "nas/errors.py": "",
    "nas/registry.py": "import importlib\nfrom nas.errors import SpecError",
    "nas/catalog.py": """
        from nas.registry import Registry
        TASKS = Registry("task", {"digits": "nas.task.digits:DIGITS"})
        COSTS = Registry("cost", {"latency_ms": "nas.cost.latency:LATENCY"})
        """,
    "nas/operators/__init__.py": "",
    "nas/operators/linear.py": """
        from typing import TYPE_CHECKING
        if TYPE_CHECKING:
            from torch import Tensor
        def attend(q: "Tensor") -> "Tensor":
            import torch
            from nas_kernels import linear_attention
            return linear_attention(q)
        """,
    "nas/search/spec.py": "from nas import errors\nfrom nas.operators.linear import attend",
    "nas/strategy/optuna.py": "import optuna",
    "nas/store/sql.py": "import sqlalchemy.orm",
    "nas/model/network.py": "import torch\nfrom nas.search.spec import SearchSpec",
    "nas/cost/latency.py": "def measure():\n    import torch\n    return torch.cuda",
    "nas/task/digits.py": "def load():\n    import torch\n    return torch.zeros(1)",
    "nas/task/image_classification.py": "import sklearn.datasets\nimport torchvision",
    "nas/train/loop.py": "import nas.model.network\nfrom nas.task import digits",
    "nas/run/search.py": "import nas.train.loop\nimport nas.store.sql",
    "nas/run/ray_tune.py": "from ray import tune\ndef run():" + "\n    tune" * 59,
    "nas/report/front.py": "import pandas, plotly\nfrom nas.run.search import run_search",
    "nas/client/client.py": "import httpx",
    "nas/cli/app.py": "import typer, rich\nfrom nas.client import Client\nimport nas.run.search",
    "kernels/nas_kernels/__init__.py": "from nas_kernels.linear.reference import linear_attention",
    "kernels/nas_kernels/linear/__init__.py": "",
    "kernels/nas_kernels/linear/reference.py": "import math\nimport torch\nimport triton",
    "services/nas_services/app.py": "import fastapi, httpx\nimport nas.store.sql",
    "tests/test_linear.py": "import torch, ray, mlflow",
    ".gitignore": "# local\n/runs/\n*.db\n",
    "nas.db": "",
    "runs/front.json": "",
    "README.md": "",
}

# What is added to it, and a part of what must then be reported.
BREACHES: dict[str, tuple[dict[str, str], str]] = {
    "arrow up": (
        {"nas/search/pareto.py": "from nas.store.sql import Store"},
        "nas/search/pareto.py:1: nas.search imports nas.store.sql",
    ),
    "arrow up in a function": (
        {"nas/space/loader.py": "def load():\n    from nas import search\n"},
        "nas/space/loader.py:2: nas.space imports nas",
    ),
    "arrow up in a submodule named from nas": (
        {"nas/search/__init__.py": "", "nas/space/loader.py": "from nas import search"},
        "nas/space/loader.py:1: nas.space imports nas.search",
    ),
    "arrow up for the type checker": (
        {
            "nas/operators/norm.py": """
            import typing
            if typing.TYPE_CHECKING:
                from nas.space.architecture import Architecture
            """
        },
        "nas/operators/norm.py:3: nas.operators imports nas.space.architecture",
    ),
    "arrow up by a dynamic import": (
        {"nas/task/words.py": 'import importlib\nimportlib.import_module("nas.train.loop")'},
        "nas/task/words.py:2: nas.task imports nas.train.loop",
    ),
    "arrow up by a relative import": (
        {"nas/search/pareto.py": "from ..store.sql import Store"},
        "nas/search/pareto.py:1: nas.search imports nas.store.sql",
    ),
    "arrow sideways": (
        {"nas/cost/analytic.py": "import nas.model.network"},
        "nas/cost/analytic.py:1: nas.cost imports nas.model.network",
    ),
    "neighbours the wrong way round": (
        {"nas/client/client.py": "from nas.cli.app import main"},
        "nas/client/client.py:1: nas.client imports nas.cli.app",
    ),
    "run knows report": (
        {"nas/run/search.py": "import nas.report.front"},
        "nas/run/search.py:1: nas.run imports nas.report.front",
    ),
    "errors know the catalog": (
        {"nas/errors.py": "import nas.catalog"},
        "nas/errors.py:1: nas.errors imports nas.catalog",
    ),
    "the face from inside": (
        {"nas/cli/app.py": "import nas"},
        "nas/cli/app.py:1: nas.cli imports nas,",
    ),
    "services from below": (
        {"nas/cli/serve.py": "def serve():\n    import nas_services.app"},
        "nas/cli/serve.py:2: nas.cli imports nas_services.app",
    ),
    "kernels know nas": (
        {"kernels/nas_kernels/dispatch.py": "def f():\n    import nas.errors"},
        "kernels/nas_kernels/dispatch.py:2: nas_kernels knows nothing of nas.errors",
    ),
    "kernels called by the model": (
        {"nas/model/layers.py": "def f():\n    import nas_kernels"},
        "nas/model/layers.py:2: nas_kernels is imported by nas.operators alone",
    ),
    "kernels loaded with a declaration": (
        {"nas/operators/relpos.py": "import nas_kernels"},
        "nas/operators/relpos.py:1: nas_kernels is imported by nas.operators alone",
    ),
    "kernels need numpy": (
        {"kernels/nas_kernels/testing.py": "import numpy"},
        "kernels/nas_kernels/testing.py:1: nas_kernels imports numpy",
    ),
    "torch in the search": (
        {"nas/search/pareto.py": "def f():\n    from torch import nn"},
        "nas/search/pareto.py:2: nas.search.pareto imports torch",
    ),
    "torch in the store, for the type checker": (
        {
            "nas/store/store.py": """
            from typing import TYPE_CHECKING
            if TYPE_CHECKING:
                import torch
            """
        },
        "nas/store/store.py:3: nas.store.store imports torch",
    ),
    "torch on loading an operator": (
        {"nas/operators/relpos.py": "try:\n    import torch.nn\nexcept ImportError: pass"},
        "nas/operators/relpos.py:2: loading nas.operators.relpos loads torch.nn",
    ),
    "torch on loading a declared task": (
        {"nas/task/digits.py": "import torch"},
        "nas/task/digits.py:1: loading nas.task.digits loads torch",
    ),
    "torch on loading a declared cost": (
        {"nas/cost/latency.py": "import torch"},
        "nas/cost/latency.py:1: loading nas.cost.latency loads torch",
    ),
    "torch by another form of it": (
        {"nas/strategy/ranked.py": "from safetensors import torch"},
        "nas/strategy/ranked.py:1: loading nas.strategy.ranked loads safetensors.torch",
    ),
    "torch in the service by three corners": (
        {"services/nas_services/jobs.py": "import nas.run.search"},
        "nas/model/network.py:1: loading nas_services.jobs loads torch",
    ),
    "the record on a GPU box": (
        {"nas/train/standalone.py": "import mlflow"},
        "nas/train/standalone.py:1: loading nas.train.standalone loads mlflow",
    ),
    "the record on a GPU box by a corner": (
        {"nas/train/standalone.py": "from nas.store import sql"},
        "nas/store/sql.py:1: loading nas.train.standalone loads sqlalchemy.orm",
    ),
    "a second door": (
        {"nas/run/search.py": "def f():\n    import ray"},
        "nas/run/search.py:2: ray comes in by nas/run/ray_tune.py alone",
    ),
    "a face that works": (
        {"nas/search/__init__.py": "from nas.search.spec import SearchSpec"},
        "nas/search/__init__.py:1: an __init__ is empty or a lazy public face",
    ),
    "a face that computes": (
        {"nas/search/__init__.py": "TABLE = dict(a=1)"},
        "nas/search/__init__.py:1: an __init__ is empty or a lazy public face",
    ),
    "a room nobody planned": (
        {"nas/data/loader.py": ""},
        "nas/data/loader.py: no room is called nas.data",
    ),
    "a file that explains nothing": (
        {"nas/model/utils.py": ""},
        "nas/model/utils.py: a name that explains nothing",
    ),
    "a folder that explains nothing": (
        {"tests/common/shapes.py": ""},
        "tests/common/shapes.py: a name that explains nothing",
    ),
    "a long file": (
        {"services/nas_services/app.py": "x = 1\n" * 401},
        "services/nas_services/app.py: 401 lines",
    ),
    "a long function": (
        {"nas/run/search.py": "class Search:\n    def run(self):" + "\n        self" * 60},
        "nas/run/search.py:2: run has 61 lines",
    ),
    "a long coroutine": (
        {"services/nas_services/app.py": "async def answer():" + "\n    1" * 60},
        "services/nas_services/app.py:1: answer has 61 lines",
    ),
    "a stranger at the top": ({"scripts/run.py": ""}, "scripts: not part of the top level"),
    "a hidden stranger at the top": ({".travis.yml": ""}, ".travis.yml: not part of the top level"),
    "a source root made a package": (
        {"kernels/__init__.py": ""},
        "kernels/__init__.py: kernels is a source root",
    ),
}


def write_tree(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = text.strip("\n").split("\n")
        margin = len(lines[0]) - len(lines[0].lstrip())
        path.write_text("\n".join(line[margin:] for line in lines) + "\n")


def python(code: str, *arguments: str) -> str:
    """What a fresh interpreter prints that finds the packages in the checkout."""
    paths = [str(ROOT / folder) for folder in SOURCE_ROOTS.values()]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {paths!r}\n{code}", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_tree_keeps_the_rules() -> None:
    assert violations(ROOT) == []


def test_planned_are_the_rooms_that_have_nothing_in_them_yet() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    modules = Checkout(ROOT).modules.items()
    built = {room(name) for name, path in modules if path.name != "__init__.py"}
    planned = {name for storey in STOREYS for name in storey} - built - {"nas"}
    assert set(re.findall(r"([\w.]+) \(planned\)", text)) == planned


def test_a_lawful_tree_is_left_in_peace(tmp_path: Path) -> None:
    write_tree(tmp_path, LAWFUL)
    assert violations(tmp_path) == []


@pytest.mark.parametrize("breach", BREACHES)
def test_a_breach_is_reported(tmp_path: Path, breach: str) -> None:
    files, expected = BREACHES[breach]
    write_tree(tmp_path, LAWFUL | files)
    found = violations(tmp_path)
    assert any(line.startswith(expected) for line in found), found


def test_torchless_rooms_load_no_torch() -> None:
    names = loads_no_torch(Checkout(ROOT))
    # What moves must be named anew, or it would be held to nothing.
    assert {"nas.errors", "nas.catalog", "nas_services"} | SERVING <= set(names)
    # One by one, so that the answer names the module that brought torch in.
    code = (
        "import importlib\n"
        "for name in sys.argv[1:]:\n"
        "    importlib.import_module(name)\n"
        "    if 'torch' in sys.modules: sys.exit(f'{name} loaded torch')"
    )
    python(code, *names)


def test_the_engine_loads_on_a_bare_gpu_box() -> None:
    names = [name for name in Checkout(ROOT).modules if room(name) in BARE_GPU_BOX]
    code = (
        "import importlib\n"
        f"sys.modules |= dict.fromkeys({sorted(NOT_ON_A_GPU_BOX)!r})\n"
        "for name in sys.argv[1:]: importlib.import_module(name)"
    )
    python(code, *names)


@pytest.mark.parametrize("name", ["kernels", "services", "tests"])
def test_a_regular_package_wins_its_name_over_our_folder(tmp_path: Path, name: str) -> None:
    # An editable install puts the root on the path, where these folders look like namespaces.
    write_tree(tmp_path, {f"{name}/__init__.py": ""})
    spec = PathFinder.find_spec(name, [str(ROOT), str(tmp_path)])
    assert spec is not None
    assert spec.origin == str(tmp_path / name / "__init__.py")
