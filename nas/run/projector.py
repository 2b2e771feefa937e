"""How MLflow is kept up: a process of its own copies the record's outbox while a search runs."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import threading
from types import TracebackType

from nas.errors import LeaseLost, StoreUnavailable
from nas.run.lease import holder, holder_alive
from nas.run.workspace import Workspace
from nas.store.projection import project
from nas.store.sql import SqlStore

PAUSE_SECONDS = 3.0
GRACE_SECONDS = 90.0


class Projector:
    """Runs the projection beside the `with` block; MLflow away or slow stops nothing.

    At the end it waits up to `GRACE_SECONDS` for the rest to be copied. What is left stays in the
    outbox, for the next run or `nas store rebuild`.
    """

    def __init__(self, place: Workspace, search: str) -> None:
        self.place, self.search = place, search
        self.behind = False

    def __enter__(self) -> Projector:
        # By the environment and not as arguments, which everyone on the machine can read.
        stores = {
            "NAS_DATABASE_URL": self.place.record_url,
            "MLFLOW_TRACKING_URI": self.place.tracking_uri,
        }
        log = (self.place.root / "mlflow-projection.log").open("ab")
        with log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "nas.run.projector", self.search],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env={**os.environ, **stores, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # The child copies the rest when its standard input ends; it ends with us if we are killed.
        if self._process.stdin is not None:
            self._process.stdin.close()
        if isinstance(error, KeyboardInterrupt):
            # Who asks to stop does not wait for MLflow; the next run copies the rest.
            self._process.terminate()
        try:
            self.behind = self._process.wait(GRACE_SECONDS) != 0
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            self.behind = True


def main() -> int:
    """Copies until standard input ends, then once more; 0 when nothing is left."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("search")
    given = parser.parse_args()
    record, tracking = os.environ["NAS_DATABASE_URL"], os.environ["MLFLOW_TRACKING_URI"]
    os.nice(10)
    # Ctrl-C reaches the whole process group: the rest is then copied by the next run.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    ended = threading.Event()

    def watch() -> None:
        sys.stdin.buffer.read()
        ended.set()

    threading.Thread(target=watch, daemon=True).start()
    store = SqlStore(record)
    while True:
        last = ended.is_set()
        try:
            project(
                store,
                tracking,
                search=given.search,
                holder=holder(),
                holder_alive=holder_alive,
            )
            failed = False
        except (StoreUnavailable, LeaseLost) as error:
            sys.stderr.write(f"{error}\n")
            failed = True
        if last:
            return int(failed)
        ended.wait(PAUSE_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
