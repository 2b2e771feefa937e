"""Which line stands in which room? The rules, read from the syntax trees of a checkout."""

import ast
import fnmatch
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

SOURCE_ROOTS = {"nas": ".", "nas_kernels": "kernels", "nas_services": "services"}

# From the top down; the rooms of one line stand side by side.
STOREYS: tuple[tuple[str, ...], ...] = (
    ("nas_services",),
    ("nas",),
    ("nas.cli", "nas.client"),
    ("nas.run", "nas.report"),
    ("nas.train", "nas.export"),
    ("nas.model", "nas.task", "nas.cost", "nas.strategy", "nas.store"),
    ("nas.search",),
    ("nas.space",),
    ("nas.operators",),
    ("nas.catalog", "nas.registry", "nas.errors"),
)
# (who, whom): the neighbours that may know each other, in one direction.
NEIGHBOURS = {
    ("nas.cli", "nas.client"),
    ("nas.report", "nas.run"),
    ("nas.catalog", "nas.registry"),
    ("nas.catalog", "nas.errors"),
    ("nas.registry", "nas.errors"),
}
# The public face loads lazily from everywhere, the registry what a name stands for.
EXEMPT_FROM_ARROWS = {"nas", "nas.registry"}

TORCHLESS = {
    "nas.errors", "nas.registry", "nas.catalog", "nas.space", "nas.search",
    "nas.strategy", "nas.store", "nas.client", "nas_services",
}  # fmt: skip
# What the service calls to take a request in, and to show what came out.
SERVING = {
    "nas.cli.drive", "nas.report.files", "nas.report.result", "nas.run.drive", "nas.run.settling",
    "nas.run.submission", "nas.run.workspace",
}  # fmt: skip
TORCH = {"torch", "torchvision", "torchaudio", "triton", "safetensors.torch", "nas_kernels"}

# The rooms beside torch whose catalog entries are declarations; all of nas.operators is without it.
DECLARED = {"nas.task", "nas.cost"}

BARE_GPU_BOX = {"nas.model", "nas.cost", "nas.train", "nas.task", "nas_kernels"}
NOT_ON_A_GPU_BOX = {"ray", "mlflow", "optuna", "sqlalchemy"}

# One foreign package, one door: a file, or a folder with its trailing slash.
DOORS: dict[str, tuple[str, ...]] = {
    "fairseq": ("nas/export/fairseq/", "nas/task/fairseq_data.py"),
    "fastapi": ("services/nas_services/",),
    "httpx": ("nas/client/", "services/nas_services/"),
    "jinja2": ("services/nas_services/pages/",),
    "lightgbm": ("nas/strategy/ranker_members.py",),
    "mlflow": ("nas/store/mlflow.py",),
    "num2words": ("nas/task/numbers.py",),
    "optuna": ("nas/strategy/optuna.py",),
    "pandas": ("nas/client/answers.py", "nas/report/"),
    "plotly": ("nas/report/",),
    "pyarrow": ("nas/report/",),
    "PIL": ("nas/task/image_folder.py",),
    "ray": ("nas/run/ray_tune.py",),
    "rich": ("nas/cli/",),
    "sacremoses": ("nas/task/dictionaries.py",),
    "sacrebleu": ("nas/task/text_task.py",),
    "sklearn": (
        "nas/cost/members.py",
        "nas/strategy/ranker_members.py",
        "nas/task/image_classification.py",
    ),
    "sqlalchemy": (
        "nas/store/arrivals.py",
        "nas/store/database.py",
        "nas/store/rows.py",
        "nas/store/schema.py",
        "nas/store/serving_once.py",
        "nas/store/serving_sql.py",
        "nas/store/sql.py",
        "nas/store/tokens.py",
    ),
    "starlette": ("services/nas_services/",),
    "threadpoolctl": ("nas/strategy/ranker_members.py", "nas/strategy/optuna.py"),
    "tokenizers": ("nas/task/subwords.py",),
    "torchvision": ("nas/task/cifar10_files.py", "nas/task/image_classification.py"),
    "triton": ("kernels/nas_kernels/",),
    "typer": ("nas/cli/", "services/nas_services/commands.py"),
    "uvicorn": ("services/nas_services/",),
}

NAMES_THAT_EXPLAIN_NOTHING = {"util", "utils", "helper", "helpers", "common", "misc", "base"}
LONGEST_FILE = 400
LONGEST_FUNCTION = 60
TOP_LEVEL = {
    ".ci", ".git", ".gitignore", ".pre-commit-config.yaml", "CHANGELOG.md", "CONTRIBUTING.md",
    "LICENSE", "Makefile", "README.md", "benchmarks", "constraints.txt", "docker", "kernels", "nas",
    "pyproject.toml", "search_spaces", "services", "tests",
}  # fmt: skip

Moment = Literal["load", "call", "typing"]


@dataclass(frozen=True)
class Import:
    """One import: who, on which line, what, and when (`typing`: only for the checker)."""

    importer: str
    line: int
    target: str
    moment: Moment


@dataclass(frozen=True)
class Checkout:
    """The Python modules of a checkout and what each of them imports."""

    root: Path

    @cached_property
    def modules(self) -> dict[str, Path]:
        """Every module by its dotted name."""
        found = {}
        for package, folder in SOURCE_ROOTS.items():
            base = self.root / folder
            for path in sorted((base / package).rglob("*.py")):
                parts = path.relative_to(base).with_suffix("").parts
                found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
        return found

    @cached_property
    def trees(self) -> dict[str, ast.Module]:
        """The syntax tree of every module."""
        return {name: ast.parse(path.read_text()) for name, path in self.modules.items()}

    @cached_property
    def imports(self) -> dict[str, list[Import]]:
        """The imports of every module, nested, literally dynamic and type-checking ones too."""
        return {
            name: [
                Import(name, line, target, moment)
                for node, moment in _moments(tree.body, "load")
                for line, target in self._targets(name, node)
            ]
            for name, tree in self.trees.items()
        }

    def _targets(self, importer: str, node: ast.AST) -> Iterator[tuple[int, str]]:
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, alias.name) for alias in names)
            case ast.ImportFrom(module=module, names=names, level=level):
                origin = _absolute(importer, self.modules[importer], module, level)
                for alias in names:
                    member = f"{origin}.{alias.name}"
                    known = member in self.modules or member in TORCH
                    yield node.lineno, member if known else origin
            case ast.Call(
                func=ast.Name(id="import_module" | "__import__")
                | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(target)), *_],
            ):
                yield node.lineno, target

    def at(self, item: Import) -> str:
        """Where an import stands, as `file:line`."""
        return f"{self.file(item.importer)}:{item.line}"

    def file(self, module: str) -> str:
        """A module's path from the root, with slashes."""
        return self.modules[module].relative_to(self.root).as_posix()

    def loaded_with(self, module: str) -> Iterator[Import]:
        """Every import that happens when `module` is loaded, through our own modules."""
        seen, queue = set(), [module]
        while queue:
            name = queue.pop()
            if name in seen or name not in self.modules:
                continue
            seen.add(name)
            queue += _with_parents(name)
            for item in self.imports[name]:
                if item.moment == "load":
                    yield item
                    queue += _with_parents(item.target)

    @cached_property
    def declarations(self) -> set[str]:
        """The modules of tasks and costs that the catalog names: loaded to check a request."""
        tree = self.trees.get("nas.catalog", ast.Module([], []))
        named = {
            node.value.partition(":")[0]
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and ":" in node.value
        }
        return {name for name in named & set(self.modules) if room(name) in DECLARED}


def _moments(nodes: Iterable[ast.AST], moment: Moment) -> Iterator[tuple[ast.AST, Moment]]:
    for node in nodes:
        yield node, moment
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            inside = "call" if moment == "load" else moment
            body = [node.body] if isinstance(node, ast.Lambda) else node.body
            rest = [child for child in ast.iter_child_nodes(node) if child not in body]
            yield from _moments(rest, moment)
            yield from _moments(body, inside)
        elif isinstance(node, ast.If) and _is_type_checking(node.test):
            yield from _moments(node.body, "typing")
            yield from _moments(node.orelse, moment)
        else:
            yield from _moments(ast.iter_child_nodes(node), moment)


def _is_type_checking(test: ast.expr) -> bool:
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


def _absolute(importer: str, path: Path, module: str | None, level: int) -> str:
    if level == 0:
        return module or ""
    package = importer.split(".") if path.stem == "__init__" else importer.split(".")[:-1]
    parts = package[: len(package) - level + 1]
    return ".".join([*parts, module] if module else parts)


def _with_parents(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[: end + 1]) for end in range(len(parts))]


def _within(target: str, packages: Iterable[str]) -> str | None:
    return next((p for p in packages if target == p or target.startswith(f"{p}.")), None)


def room(module: str) -> str:
    """The room of one of our modules: its package, or the first two words within `nas`."""
    parts = module.split(".")
    return ".".join(parts[:2]) if parts[0] == "nas" else parts[0]


def is_ours(module: str) -> bool:
    """Whether a dotted name belongs to one of the packages of this repository."""
    return module.split(".")[0] in SOURCE_ROOTS


def loads_no_torch(checkout: Checkout) -> list[str]:
    """What must load without torch: the torchless rooms, all declarations, the submission."""
    rooms, single = TORCHLESS | {"nas", "nas.operators"}, checkout.declarations | SERVING
    return [name for name in checkout.modules if room(name) in rooms or name in single]


def unknown_rooms(checkout: Checkout) -> Iterator[str]:
    """Every module stands in a room of the plan."""
    known = {name for storey in STOREYS for name in storey} | {"nas_kernels"}
    for name in checkout.modules:
        if room(name) not in known:
            yield f"{checkout.file(name)}: no room is called {room(name)}"


def arrows_up(checkout: Checkout) -> Iterator[str]:
    """Arrows go down only, and the kernels are called by the declarations of operators alone."""
    height = {name: -level for level, storey in enumerate(STOREYS) for name in storey}
    for name, imports in checkout.imports.items():
        who = room(name)
        for item in imports:
            whom = room(item.target)
            if not is_ours(item.target) or who == whom or name in EXEMPT_FROM_ARROWS:
                continue
            if who == "nas_kernels":
                yield f"{checkout.at(item)}: nas_kernels knows nothing of {item.target}"
            elif whom == "nas_kernels":
                if who != "nas.operators" or item.moment == "load":
                    yield (
                        f"{checkout.at(item)}: {item.target} is imported by nas.operators alone, "
                        "inside its functions"
                    )
            elif height.get(whom, 1) >= height.get(who, 0) and (who, whom) not in NEIGHBOURS:
                yield f"{checkout.at(item)}: {who} imports {item.target}, and arrows go down only"


def kernels_with_more_than_torch(checkout: Checkout) -> Iterator[str]:
    """The kernels need torch and triton, and nothing else that must be installed."""
    allowed = {"torch", "triton", "nas_kernels"} | sys.stdlib_module_names
    for name, imports in checkout.imports.items():
        for item in imports if room(name) == "nas_kernels" else ():
            # What belongs to us is judged by the arrows.
            if item.target.split(".")[0] not in allowed and not is_ours(item.target):
                yield f"{checkout.at(item)}: nas_kernels imports {item.target}"


def torch_where_none_may_be(checkout: Checkout) -> Iterator[str]:
    """Torchless rooms never import torch, declarations only inside functions or for the checker."""
    for name, imports in checkout.imports.items():
        for item in imports if room(name) in TORCHLESS else ():
            if item.moment != "load" and _within(item.target, TORCH):
                yield f"{checkout.at(item)}: {name} imports {item.target}, a room without torch"
    for name in loads_no_torch(checkout):
        for item in checkout.loaded_with(name):
            if _within(item.target, TORCH):
                yield f"{checkout.at(item)}: loading {name} loads {item.target}"


def more_than_a_gpu_box_has(checkout: Checkout) -> Iterator[str]:
    """Model, kernels, cost, task and training load where only torch is."""
    for name in checkout.modules:
        for item in checkout.loaded_with(name) if room(name) in BARE_GPU_BOX else ():
            if _within(item.target, NOT_ON_A_GPU_BOX):
                yield f"{checkout.at(item)}: loading {name} loads {item.target}"


def other_doors(checkout: Checkout) -> Iterator[str]:
    """One foreign package, one door."""
    for imports in checkout.imports.values():
        for item in imports:
            package = item.target.split(".")[0]
            doors = DOORS.get(package, ("",))
            if not checkout.file(item.importer).startswith(doors):
                yield f"{checkout.at(item)}: {package} comes in by {' and '.join(doors)} alone"


def full_faces(checkout: Checkout) -> Iterator[str]:
    """An `__init__` is empty or a lazy public face (PEP 562); the kernels' names its own parts."""
    for name, tree in checkout.trees.items():
        if checkout.modules[name].stem != "__init__":
            continue
        for node in tree.body:
            own = isinstance(node, ast.ImportFrom) and (node.module or "").startswith(
                "nas_kernels."
            )
            if not (_is_lazy(node) or (name == "nas_kernels" and own)):
                yield (
                    f"{checkout.file(name)}:{node.lineno}: an __init__ is empty "
                    "or a lazy public face"
                )


def _is_lazy(node: ast.stmt) -> bool:
    match node:
        case ast.Expr(value=ast.Constant(value=str())):
            return True
        case ast.Import(names=names):
            return all(alias.name.split(".")[0] in sys.stdlib_module_names for alias in names)
        case ast.ImportFrom(module=str(module), level=0):
            return module.split(".")[0] in sys.stdlib_module_names
        case ast.If(test=test, orelse=[]):
            return _is_type_checking(test)
        case ast.Assign(value=value) | ast.AnnAssign(value=value):
            return value is None or not any(isinstance(n, ast.Call) for n in ast.walk(value))
        case ast.FunctionDef(name=name):
            return name in {"__getattr__", "__dir__"}
    return False


def bad_names_and_sizes(root: Path) -> Iterator[str]:
    """A file's name says what is in it, and no file of a package is longer than 400 lines."""
    for folder in ("nas", "kernels", "services", "tests", "benchmarks"):
        for path in sorted((root / folder).rglob("*.py")):
            shown = path.relative_to(root).as_posix()
            if NAMES_THAT_EXPLAIN_NOTHING & set(path.relative_to(root).with_suffix("").parts):
                yield f"{shown}: a name that explains nothing"
            lines = len(path.read_text().splitlines())
            if lines > LONGEST_FILE and folder not in {"tests", "benchmarks"}:
                yield f"{shown}: {lines} lines; which two things is it?"


def long_functions(checkout: Checkout) -> Iterator[str]:
    """No function of a package is longer than 60 lines, from its `def` to its last line."""
    for name, tree in checkout.trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > LONGEST_FUNCTION:
                    where = f"{checkout.file(name)}:{node.lineno}"
                    yield f"{where}: {node.name} has {lines} lines; which two things is it?"


def strangers_at_the_top(root: Path) -> Iterator[str]:
    """The top level holds what the plan names and what git ignores, and source roots no package."""
    ignored = root / ".gitignore"
    lines = ignored.read_text().splitlines() if ignored.exists() else []
    patterns = [line.strip("/") for line in lines if line and not line.startswith(("#", "!"))]
    for path in sorted(root.iterdir()):
        known = path.name in TOP_LEVEL or any(fnmatch.fnmatch(path.name, p) for p in patterns)
        if not known:
            yield f"{path.name}: not part of the top level"
    for folder in ("kernels", "services"):
        if (root / folder / "__init__.py").exists():
            yield f"{folder}/__init__.py: {folder} is a source root, not a package"


def violations(root: Path) -> list[str]:
    """Every breach of the rules in the checkout at `root`, one line each: where, and what."""
    checkout = Checkout(root)
    of_modules = (
        unknown_rooms, arrows_up, kernels_with_more_than_torch, torch_where_none_may_be,
        more_than_a_gpu_box_has, other_doors, full_faces, long_functions,
    )  # fmt: skip
    found = [line for rule in of_modules for line in rule(checkout)]
    found += [line for rule in (bad_names_and_sizes, strangers_at_the_top) for line in rule(root)]
    return sorted(set(found))
