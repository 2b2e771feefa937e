"""A server on loopback whose every answer is written by the test, byte by byte, broken ones too."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.client import parse_headers
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Any


@dataclass(frozen=True)
class Asked:
    """One request as it came."""

    method: str
    path: str
    headers: Message
    body: bytes

    @property
    def json(self) -> Any:
        """The body's document."""
        return json.loads(self.body)


Play = Callable[[Asked], bytes]
"""The bytes that answer a request, none to hang up."""


@dataclass
class Flaky:
    """Plays one answer for each request, the last one for all that follow."""

    plays: list[Play]
    asked: list[Asked] = field(default_factory=list)
    url: str = ""


def raw(
    status: int = 200,
    body: bytes | Mapping[str, Any] = b"{}",
    *,
    length: int | None = None,
    media: str = "application/json",
    **headers: str,
) -> Play:
    """An answer that says it has `length` bytes, as many as it has where None; `_` is `-`."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    given = {
        "Content-Type": media,
        "Content-Length": str(len(content) if length is None else length),
        "Connection": "close",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in given.items())
    text = f"HTTP/1.1 {status} As Told\r\n{lines}\r\n".encode() + content
    return lambda _: text


def problem(status: int, kind: str = "", **more: Any) -> Play:
    """A problem document."""
    headers = more.pop("headers", {})
    named = f"urn:etnas:problem:{kind}" if kind else "about:blank"
    body = {"type": named, "title": "As Told", "status": status, "instance": "/", **more}
    return raw(status, body, media="application/problem+json", **headers)


def hang_up(_: Asked) -> bytes:
    """No answer: the line drops."""
    return b""


class _Server(ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


@contextmanager
def flaky(*plays: Play) -> Iterator[Flaky]:
    """Serves until the block ends."""
    found = Flaky(list(plays))
    turn = threading.Lock()

    class Handler(StreamRequestHandler):
        def handle(self) -> None:
            line = self.rfile.readline().decode()
            if not line.strip():
                return
            method, path, _ = line.split(" ", 2)
            headers = parse_headers(self.rfile)
            body = self.rfile.read(int(headers.get("Content-Length") or 0))
            asked = Asked(method, path, headers, body)
            with turn:
                found.asked.append(asked)
                play = found.plays.pop(0) if len(found.plays) > 1 else found.plays[0]
            self.wfile.write(play(asked))

    with _Server(("127.0.0.1", 0), Handler) as server:
        found.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield found
        finally:
            server.shutdown()
            thread.join()
