"""What can go wrong, each error ours and also the builtin a caller expects."""

from collections.abc import Mapping, Sequence
from typing import Any


def writable(text: str) -> str:
    """The text as UTF-8 can hold it: bytes of a file name that are none are written as escapes."""
    return text.encode(errors="backslashreplace").decode()


def headline(error: Exception) -> str:
    """The first line of an error's message, or its class's name where it has none."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def missing_package(error: ModuleNotFoundError) -> str:
    """The package that is not installed; raises `error` itself where the module is one of ours."""
    package = (error.name or "nas").partition(".")[0]
    if package in ("nas", "nas_kernels", "nas_services"):
        raise error
    return package


class EtnasError(Exception):
    """Base of every error that etnas raises on purpose; its text is one complete message."""

    def __str__(self) -> str:
        # KeyError prints the repr of its argument; a message is for people.
        return writable(str(self.args[0])) if self.args else ""


class SpecError(EtnasError, ValueError):
    """A request, space or architecture that cannot be used: what was given, allowed, and where."""


class UnknownName(SpecError, KeyError):
    """A name that no catalog entry carries; the message lists its nearest neighbours."""


class DuplicateName(EtnasError, ValueError):
    """Two catalog entries of one plug-in point carry the same name."""


class PartNotInstalled(EtnasError, ImportError):
    """A recorded search names a part of a package that is not installed here."""


class NothingFeasible(EtnasError, ValueError):
    """No architecture of the space can meet the constraints; the message says how near it comes."""


class SearchNotFound(EtnasError, KeyError):
    """No search of this id is in the record."""


class SearchStateError(EtnasError, RuntimeError):
    """A search is not in a state that allows what was asked (resume of a finished search, say)."""


class GateFailed(SearchStateError):
    """A search's ranking is not to be trusted, and its request says to stop there."""


class LeaseLost(EtnasError, RuntimeError):
    """Another process holds the search, or this one's lease ran out and was taken over."""


class DuplicateTrial(EtnasError, ValueError):
    """A trial of this search, role and index is already in the record."""


class StoreUnavailable(EtnasError, ConnectionError):
    """The record or the MLflow store cannot be reached or used."""


class DataError(EtnasError, FileNotFoundError):
    """Data are missing, truncated or not what their checksum says; folder and files are named."""


class DataChanged(DataError):
    """Data are others than those that a search began with: a fault of none of its networks."""


class CheckpointError(EtnasError, OSError):
    """A checkpoint could not be written or read; the previous one is untouched."""


class MachineUnavailable(EtnasError, RuntimeError):
    """No worker, GPU or memory can be had as asked for, or the worker that trained died."""


class OutputError(EtnasError, OSError):
    """A report or another file for a person could not be written."""


class TrainingDiverged(EtnasError, ArithmeticError):
    """A training loss is not finite."""


class IdempotencyConflict(EtnasError, ValueError):
    """An idempotency key came again with another request than the one that it stands for."""


class TokenNotFound(EtnasError, KeyError):
    """No token has this name or id."""


class OperationNotFound(EtnasError, KeyError):
    """No operation of this id is in the record."""


class LauncherUnavailable(EtnasError, ConnectionError):
    """Who runs the jobs of searches (Ray) cannot be reached."""


class ServiceError(EtnasError, RuntimeError):
    """A service answered with an error, or with what it never should.

    `status` is the HTTP status, `title`, `detail` and `errors` what its problem document says
    (RFC 9457).
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 0,
        title: str = "",
        detail: str = "",
        errors: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.title = title
        self.detail = detail
        self.errors = tuple(errors)


class SearchFailed(EtnasError, RuntimeError):
    """A search that another machine ran has ended without a result; the message says why."""


class NotAllowed(EtnasError, PermissionError):
    """A service wants a token, or one with another scope or of another owner."""


class ServiceUnavailable(EtnasError, ConnectionError):
    """A service cannot be reached, or says that it cannot answer now."""
