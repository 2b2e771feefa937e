"""Where a search keeps its things: the record, MLflow, supernets, reports, all under one folder."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from nas.search.spec import SearchSpec
from nas.space.reading import path_of
from nas.store.database import sqlite_url
from nas.store.mlflow import default_tracking_uri
from nas.task.task import data_root


@dataclass(frozen=True)
class Workspace:
    """A folder with everything that searches leave behind, and where its two databases are."""

    root: Path
    record_url: str
    tracking_uri: str
    data_root: Path

    @staticmethod
    def versions() -> dict[str, str]:
        """What code runs: the package's version, and the commit where it is a git checkout."""
        checkout = Path(__file__).resolve().parents[2]
        found = {"etnas": importlib.metadata.version("etnas")}
        if (checkout / ".git").exists() and shutil.which("git"):
            command = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=40"]
            head = subprocess.run(command, capture_output=True, text=True, check=False)
            found |= {"commit": head.stdout.strip()} if head.returncode == 0 else {}
        return found

    def supernet(self, spec: SearchSpec) -> Path:
        """The folder of a supernet, by data; searches that ask for the same one share it."""
        return self.root / "supernets" / supernet_name(spec)

    def standalone(self, search: str) -> Path:
        """The folder of a search's stand-alone trainings."""
        return self.root / "standalone" / search

    def report(self, search: str) -> Path:
        """The folder of a search's report."""
        return self.root / "searches" / search


def supernet_name(spec: SearchSpec) -> str:
    """The same for two requests where they ask for the same weights.

    A time budget, told to six digits, may cut a training short, so that it is not that of another.
    """
    hours = spec.budget.hours(spec.executor.training_devices)
    return spec.supernet_digest if hours is None else f"{spec.supernet_digest}-{hours:g}h"


def workspace(home: str | Path | None = None) -> Workspace:
    """The workspace in `home`, else in NAS_HOME, else in `nas-work` of the working folder.

    NAS_DATABASE_URL and MLFLOW_TRACKING_URI point the record and MLflow elsewhere; data lie where
    `nas.task.task.data_root` says. Raises `SpecError` for a home that can be no path.
    """
    root = path_of(home or os.environ.get("NAS_HOME") or "nas-work", "home").resolve()
    return Workspace(
        root=root,
        record_url=os.environ.get("NAS_DATABASE_URL") or sqlite_url(root / "record.db"),
        tracking_uri=os.environ.get("MLFLOW_TRACKING_URI") or default_tracking_uri(root),
        data_root=data_root().resolve(),
    )
