"""The command line, loaded on use."""

from typing import Any


def __getattr__(name: str) -> Any:
    if name != "main":
        raise AttributeError(f"module 'nas.cli' has no attribute {name!r}")
    from nas.cli.app import main

    return main
