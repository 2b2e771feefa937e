"""The same from another machine: a service's whole API as Python. Loaded on use."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas.client.client import Client

__all__ = ["Client"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'nas.client' has no attribute {name!r}")
    return getattr(importlib.import_module("nas.client.client"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
