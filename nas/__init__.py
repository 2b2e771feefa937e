"""etnas: neural architecture search for efficient transformers. The public face, loaded on use."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas.client.client import Client
    from nas.report.result import (
        SearchResult,
        confirm_search,
        fidelity_search,
        load_result,
        resume_search,
        run_search,
    )
    from nas.search.spec import SearchSpec, load_spec
    from nas.space.architecture import Architecture, load_architecture
    from nas.space.loader import load_space
    from nas.space.search_space import SearchSpace

__all__ = [
    "Architecture",
    "Client",
    "SearchResult",
    "SearchSpace",
    "SearchSpec",
    "confirm_search",
    "fidelity_search",
    "load_architecture",
    "load_result",
    "load_space",
    "load_spec",
    "resume_search",
    "run_search",
]

_HOMES = {
    "Architecture": "nas.space.architecture",
    "Client": "nas.client.client",
    "SearchResult": "nas.report.result",
    "SearchSpace": "nas.space.search_space",
    "SearchSpec": "nas.search.spec",
    "confirm_search": "nas.report.result",
    "fidelity_search": "nas.report.result",
    "load_architecture": "nas.space.architecture",
    "load_result": "nas.report.result",
    "load_space": "nas.space.loader",
    "load_spec": "nas.search.spec",
    "resume_search": "nas.report.result",
    "run_search": "nas.report.result",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'nas' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
