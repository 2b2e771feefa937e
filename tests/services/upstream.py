"""A small HTTP server on loopback that answers as a test says, and remembers what it was asked."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer


@dataclass(frozen=True)
class Asked:
    """One request as it came; header names are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Answer:
    """What is sent back; without a length where `parts` come one by one."""

    status: int = 200
    body: bytes = b"{}"
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})
    parts: Callable[[], Iterator[bytes]] | None = None


@dataclass
class Upstream:
    """Where the server listens, what it was asked, and how it answers."""

    answer: Callable[[Asked], Answer]
    asked: list[Asked] = field(default_factory=list)
    url: str = ""


class Server(ThreadingHTTPServer):
    """One that asks nobody for this machine's name, and keeps quiet."""

    daemon_threads = True

    def server_bind(self) -> None:
        TCPServer.server_bind(self)

    def handle_error(self, request: object, client_address: object) -> None:
        """Nothing: a caller who gave up is what some tests are about."""


@contextmanager
def upstream(answer: Callable[[Asked], Answer]) -> Iterator[Upstream]:
    """Serves until the block ends."""
    found = Upstream(answer)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            headers = {name.lower(): value for name, value in self.headers.items()}
            asked = Asked(self.command, self.path, headers, self.rfile.read(length))
            found.asked.append(asked)
            given = found.answer(asked)
            self.send_response(given.status)
            for name, value in given.headers.items():
                self.send_header(name, value)
            if given.parts is None:
                self.send_header("Content-Length", str(len(given.body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(given.body)
                return
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for part in given.parts():
                self.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
                self.wfile.flush()
            self.wfile.write(b"0\r\n\r\n")

        do_GET = do_POST = do_HEAD = do_PUT = do_DELETE = do_PATCH = handle_any

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    with Server(("127.0.0.1", 0), Handler) as server:
        found.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield found
        finally:
            server.shutdown()
            thread.join()
