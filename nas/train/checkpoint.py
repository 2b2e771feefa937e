"""How is a training run kept on disk? One safetensors file, replaced whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from nas.errors import CheckpointError
from nas.train.precision import Precision

FORMAT = 1


@dataclass(frozen=True)
class State:
    """What a checkpoint says beside its tensors.

    `identity` names what was trained on what (digests); `complete` marks a run that has ended,
    `stopped` why it ended early; `history` is what a watcher has seen, one record an interval.
    `about` is what a network needs to be used apart from where it was trained.
    """

    identity: Mapping[str, str]
    precision: Precision
    step: int = 0
    loss: float = float("nan")
    seconds: float = 0.0
    complete: bool = False
    stopped: str = ""
    history: tuple[Mapping[str, object], ...] = ()
    about: Mapping[str, Any] = field(default_factory=dict)


_KINDS = {
    "identity": dict,
    "precision": str,
    "step": int,
    "loss": float,
    "seconds": float,
    "complete": bool,
    "stopped": str,
    "about": dict,
}
_ANEW = "move it away to train anew"


def write(file: Path, tensors: Mapping[str, Tensor], state: State) -> None:
    """Replaces `file` whole; raises `CheckpointError` and leaves the previous one untouched."""
    described = {"format": FORMAT, **asdict(state)}
    # Unique, so that an attempt which was given up but still runs never writes into this one's.
    temporary = file.with_name(f".{file.name}.{uuid.uuid4().hex}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        content = save(dict(tensors), {"etnas": json.dumps(described)})
        with temporary.open("wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(file)
        _sync_folder(file.parent)
    except OSError as error:
        left = "the previous one is untouched" if file.exists() else "there is no earlier one"
        raise CheckpointError(f"{file}: checkpoint not written ({error}); {left}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def exclusive(file: Path) -> Iterator[Callable[[], bool]]:
    """Gives a function that tries to become the only writer of `file`, and says whether it is.

    The right is a lock on a file beside it: it ends with the block or the process, however that
    dies. Raises `CheckpointError` where the folder cannot be written.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(file.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise CheckpointError(f"{file}: its folder cannot be written to: {error}") from error

    def attempt() -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            # Without locks two writers double the work, but still replace the file whole.
            return error.errno in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
        return True

    try:
        yield attempt
    finally:
        os.close(handle)


def remove_leftovers(file: Path) -> None:
    """Deletes what killed attempts left half-written beside `file`; for its only writer."""
    for leftover in file.parent.glob(f".{file.name}.*"):
        with contextlib.suppress(OSError):
            leftover.unlink()


def _sync_folder(folder: Path) -> None:
    # Without it, a power cut may undo the rename.
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read(file: Path, identity: Mapping[str, str]) -> tuple[dict[str, Tensor], State]:
    """All tensors, on the CPU, and the state; raises `CheckpointError` as `read_state` does."""
    state = read_state(file, identity)
    with safe_open(file, framework="pt") as opened:
        # Copies, so that no mapping of the file outlives this call.
        return {name: opened.get_tensor(name).clone() for name in opened.keys()}, state  # noqa: SIM118


def read_weights(
    file: Path, identity: Mapping[str, str], network: torch.nn.Module, *, at: int | None = None
) -> State:
    """Loads the weights of a finished run in place, or of one that stands `at` a step.

    Raises `CheckpointError` where the file is missing, unreadable, another run's or unfinished, or
    stands at another step.
    """
    if not file.exists():
        raise CheckpointError(f"{file}: no checkpoint here; train first")
    state = read_state(file, identity)
    if at is not None and state.step != at:
        raise CheckpointError(
            f"{file}: training stands at step {state.step}, and step {at} is wanted; {_ANEW}"
        )
    if at is None and not state.complete:
        raise CheckpointError(f"{file}: training stands at step {state.step} and has not ended")
    with safe_open(file, framework="pt") as opened:
        fill(network, opened.get_tensor, file)
    return state


def fill(network: torch.nn.Module, tensor: Callable[[str], Tensor], file: Path) -> None:
    """Copies every weight in by its name; raises `CheckpointError` where one does not fit."""
    try:
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                parameter.copy_(tensor(f"weight/{name}"))
    except (SafetensorError, KeyError, RuntimeError) as error:
        raise misfit(file, error) from error


def misfit(file: Path, why: object) -> CheckpointError:
    """The error of a checkpoint whose tensors are not those of the network."""
    return CheckpointError(f"{file}: does not fit this network: {why}; {_ANEW}")


def read_state(file: Path, identity: Mapping[str, str], *, advice: str = _ANEW) -> State:
    """The state alone; raises `CheckpointError` for an unreadable file or another run's.

    `advice` says what to do with an unreadable one.
    """
    try:
        with safe_open(file, framework="pt") as opened:
            described = json.loads((opened.metadata() or {})["etnas"])
        version = described.pop("format")
        if version != FORMAT:
            raise CheckpointError(f"{file}: checkpoint format {version}, {FORMAT} is readable")
        state = State(**{**described, "history": tuple(described["history"])})
        for name, kind in _KINDS.items():
            if not isinstance(getattr(state, name), kind):
                raise TypeError(f"{name} is {getattr(state, name)!r}")
        if not all(isinstance(seen, dict) for seen in state.history):
            raise TypeError(f"history is {state.history!r}")
    except (OSError, SafetensorError, LookupError, AttributeError, TypeError, ValueError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(
            f"{file}: not readable as a checkpoint: {error!r}; {advice}"
        ) from error
    for name, expected in identity.items():
        found = state.identity.get(name)
        if found != expected:
            raise CheckpointError(
                f"{file}: a checkpoint of another run: its {name} is {found}, this run's is "
                f"{expected}; give another folder, or move the file away"
            )
    return state
