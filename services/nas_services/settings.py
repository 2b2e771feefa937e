"""How is the service set up: where does it listen, whom does it know, what are its limits?"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from nas.errors import SpecError
from nas.run.workspace import Workspace, workspace

LOOPBACK = ("127.0.0.1", "localhost", "::1")
MEBIBYTE = 1 << 20
_YES, _NO = ("1", "true", "yes", "on"), ("0", "false", "no", "off", "")


@dataclass(frozen=True)
class Settings:
    """All that may differ between two services; valid when it exists.

    Addresses are without a slash at the end. `origins` are those from which a browser may change
    something beside the service's own. A `rate_per_minute` of 0 sets no limit; a caller without a
    token has none. Raises `SpecError` for what cannot be used, and for an address beyond loopback
    at which tokens are not required.
    """

    place: Workspace
    host: str = "127.0.0.1"
    port: int = 8080
    ray_jobs_url: str = "http://127.0.0.1:8265"
    ray_token: str = field(default="", repr=False)
    mlflow_url: str = ""
    allowed_hosts: tuple[str, ...] = LOOPBACK
    origins: tuple[str, ...] = ()
    require_tokens: bool = False
    rate_per_minute: int = 600
    most_searches: int = 100
    running_at_once: int = 1
    body_bytes: int = MEBIBYTE

    def __post_init__(self) -> None:
        if not self.require_tokens and not is_loopback(self.host):
            raise SpecError(
                f"host: {self.host!r} given, which others can reach, and no tokens are required; "
                f"allowed: {' or '.join(LOOPBACK)}, or NAS_REQUIRE_TOKENS=1 with tokens of "
                "`nas token create`"
            )
        at_least = {
            "port": 0,
            "rate_per_minute": 0,
            "most_searches": 1,
            "running_at_once": 1,
            "body_bytes": 1,
        }
        for name, least in at_least.items():
            if getattr(self, name) < least:
                raise SpecError(f"{name}: {getattr(self, name)} given, >= {least} is allowed")
        if self.port > 65535:
            raise SpecError(f"port: {self.port} given, 0 to 65535 is allowed")
        for name in ("ray_jobs_url", "mlflow_url"):
            _check_url(getattr(self, name), name)
        for origin in self.origins:
            if urlsplit(origin).path or not _is_http(origin):
                raise SpecError(
                    f"origins: {origin!r} given; allowed: SCHEME://HOST or SCHEME://HOST:PORT"
                )

    @property
    def session_key(self) -> Path:
        """The file with the key that browsers' sessions are signed with; made when it is needed."""
        return self.place.root / "service" / "session.key"


def is_loopback(host: str) -> bool:
    """Whether only processes of this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
        # Reading the port tells whether it is one.
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _check_url(url: str, where: str) -> None:
    if url and (not _is_http(url) or url.endswith("/")):
        raise SpecError(f"{where}: {url!r} given; allowed: http://HOST:PORT or https://HOST:PORT")


def from_environment(
    environment: Mapping[str, str] | None = None,
    home: str | Path | None = None,
    **changes: Any,
) -> Settings:
    """Settings by environment variables, with `changes` by field; raises `SpecError`.

    NAS_HOST, NAS_PORT, NAS_ALLOWED_HOSTS and NAS_ORIGINS (both with commas), NAS_REQUIRE_TOKENS,
    NAS_RATE_PER_MINUTE, NAS_MOST_SEARCHES, NAS_RUNNING_AT_ONCE, NAS_BODY_BYTES; where Ray's jobs
    are asked for: NAS_RAY_JOBS_URL, else RAY_ADDRESS where that is an HTTP one, with the token in
    RAY_AUTH_TOKEN or in the file RAY_AUTH_TOKEN_PATH; MLflow: NAS_MLFLOW_URL, else
    MLFLOW_TRACKING_URI where that is an HTTP one. The rest is `nas.run.workspace.workspace`'s.
    """
    given = os.environ if environment is None else environment
    found: dict[str, Any] = {"place": workspace(home)}
    found |= {
        name: _whole(given[variable], variable)
        for name in ("port", "rate_per_minute", "most_searches", "running_at_once", "body_bytes")
        if given.get(variable := f"NAS_{name.upper()}")
    }
    if given.get("NAS_HOST"):
        found["host"] = given["NAS_HOST"]
    found["require_tokens"] = _flag(given.get("NAS_REQUIRE_TOKENS", ""), "NAS_REQUIRE_TOKENS")
    found["allowed_hosts"] = (*LOOPBACK, *_listed(given.get("NAS_ALLOWED_HOSTS", "")))
    found["origins"] = _listed(given.get("NAS_ORIGINS", ""))
    jobs = given.get("NAS_RAY_JOBS_URL") or _http_or_none(given.get("RAY_ADDRESS", ""))
    if jobs:
        found["ray_jobs_url"] = jobs.rstrip("/")
    found["ray_token"] = _ray_token(given)
    mlflow = given.get("NAS_MLFLOW_URL") or _http_or_none(given.get("MLFLOW_TRACKING_URI", ""))
    found["mlflow_url"] = (mlflow or "").rstrip("/")
    return Settings(**{**found, **changes})


def _ray_token(given: Mapping[str, str]) -> str:
    if given.get("RAY_AUTH_TOKEN"):
        return given["RAY_AUTH_TOKEN"]
    path = given.get("RAY_AUTH_TOKEN_PATH")
    if not path:
        return ""
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise SpecError(f"RAY_AUTH_TOKEN_PATH: {path}: cannot be read: {error}") from error


def _http_or_none(url: str) -> str | None:
    return url if url.startswith(("http://", "https://")) else None


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _whole(text: str, where: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise SpecError(f"{where}: {text!r} given, a whole number is allowed") from None


def _flag(text: str, where: str) -> bool:
    if text.lower() not in (*_YES, *_NO):
        raise SpecError(f"{where}: {text!r} given; allowed: {', '.join((*_YES, *_NO[:-1]))}")
    return text.lower() in _YES
