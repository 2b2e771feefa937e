"""How is a service asked so that an answer comes, though a line drops or it is away for a while?"""

from __future__ import annotations

import email.utils
import ssl
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

import httpx
from pydantic import BaseModel, ValidationError

from nas.client.problems import AWAY, error_of, not_understood
from nas.errors import NotAllowed, ServiceUnavailable, SpecError, headline

PREFIX = "/api/v1"
KEY = "Idempotency-Key"
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 4.0
# Who is to wait longer than this is told so instead.
LONGEST_RETRY_AFTER = 30.0
TOO_MANY = 429
# A stream has a heartbeat every 15 s; three that are missing are a line that is dead.
QUIET_SECONDS = 45.0
RESENT = "nas_resent"

Model = TypeVar("Model", bound=BaseModel)


class _Page(BaseModel):
    items: list[dict[str, Any]]
    next_page_token: str | None = None


class Transport:
    """Requests to one service. All of them may be sent again: what changes something has a key.

    A request is sent up to `retries` times more where the connection fails or the service says that
    it is away (502, 503, 504) or asked too often (429), after as long as its Retry-After says.
    """

    def __init__(
        self,
        url: str,
        token: str | None,
        *,
        timeout: float,
        retries: int,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.url = base_url(url)
        headers = {"Accept": "application/json, application/problem+json, */*;q=0.1"}
        if token is not None:
            headers["Authorization"] = f"Bearer {checked_token(token)}"
        self.timeout, self.retries = timeout, retries
        # To read all certificates takes longer than most answers, and plain HTTP has no use of any.
        secure = self.url.startswith("https://")
        verify = True if secure else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._http = httpx.Client(
            headers=headers, timeout=timeout, transport=transport, verify=verify
        )

    def close(self) -> None:
        """Ends all connections."""
        self._http.close()

    def address(self, path: str) -> str:
        """The whole address of a path of the API."""
        return f"{self.url}{PREFIX}{path}"

    def ask(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        content: bytes | None = None,
        key: str | None = None,
    ) -> httpx.Response:
        """A good answer; raises what `error_of` gives for another one."""
        # Under one key however often it is sent, so that it is done once.
        headers = {KEY: key or uuid.uuid4().hex} if method == "POST" else {}
        request = self._request(method, path, params, content, headers)
        response = self._answered(request, self.retries)
        # The first one may have done it, and only its answer was lost.
        done = method == "DELETE" and response.status_code == 404 and RESENT in request.extensions
        if response.is_success or done:
            return response
        raise error_of(response)

    def answer(self, method: str, path: str) -> httpx.Response:
        """The answer, whatever it says, asked for once."""
        return self._answered(self._request(method, path, None, None, {}), 0)

    def get(self, path: str, model: type[Model], **params: Any) -> Model:
        """The document at a path, without those parameters that are None."""
        return read(self.ask("GET", path, params=params), model)

    def items(
        self, path: str, model: type[Model], page_size: int | None = None, **params: Any
    ) -> Iterator[Model]:
        """Everything that a list has, page by page as it is asked for."""
        token: str | None = None
        while True:
            asked = {**params, "page_size": page_size, "page_token": token}
            answer = self.ask("GET", path, params=asked)
            page = read(answer, _Page)
            for item in page.items:
                yield read(answer, model, item)
            token = page.next_page_token
            if token is None:
                return

    @contextmanager
    def stream(
        self, path: str, headers: Mapping[str, str], params: Mapping[str, Any] | None = None
    ) -> Iterator[httpx.Response]:
        """A good answer whose body comes bit by bit; asked once.

        Raises `ServiceUnavailable` where the connection fails, also within the block.
        """
        request = self._request("GET", path, params, None, headers)
        request.extensions["timeout"] = httpx.Timeout(self.timeout, read=QUIET_SECONDS).as_dict()
        try:
            response = self._http.send(request, stream=True)
            try:
                if not response.is_success:
                    response.read()
                    raise error_of(response)
                yield response
            finally:
                response.close()
        except httpx.TransportError as error:
            raise self.away(error) from error

    def away(self, error: Exception) -> ServiceUnavailable:
        """What is raised where no answer came."""
        return ServiceUnavailable(f"service {self.url} does not answer: {headline(error)}")

    def _request(
        self,
        method: str,
        path: str,
        params: Mapping[str, Any] | None,
        content: bytes | None,
        headers: Mapping[str, str],
    ) -> httpx.Request:
        given = {name: value for name, value in (params or {}).items() if value is not None}
        typed = {"Content-Type": "application/json"} if content is not None else {}
        try:
            return self._http.build_request(
                method,
                self.address(path),
                params=given,
                content=content,
                headers={**typed, **headers},
            )
        except (httpx.InvalidURL, UnicodeEncodeError) as error:
            raise SpecError(f"{path}: cannot be asked for: {error}") from error

    def _answered(self, request: httpx.Request, retries: int) -> httpx.Response:
        for number in range(retries + 1):
            last = number == retries
            try:
                response = self._http.send(request)
            except (httpx.UnsupportedProtocol, httpx.LocalProtocolError) as error:
                raise SpecError(f"service {self.url}: {headline(error)}") from error
            except (httpx.TransportError, httpx.DecodingError) as error:
                if last:
                    raise self.away(error) from error
                request.extensions[RESENT] = True
                time.sleep(pause(number))
                continue
            if response.status_code not in (*AWAY, TOO_MANY) or last:
                return response
            seconds = retry_after(response)
            if seconds is not None and seconds > LONGEST_RETRY_AFTER:
                return response
            time.sleep(pause(number) if seconds is None else seconds)
        raise AssertionError("the last try returns or raises")


def path(*steps: object) -> str:
    """A path of these steps, none of which leads anywhere else."""
    quoted = []
    for step in steps:
        if not isinstance(step, str) or step in ("", ".", ".."):
            raise SpecError(f"{step!r} given; an id or a name is allowed")
        quoted.append(quote(step, safe="", errors="replace"))
    return "".join(f"/{step}" for step in quoted)


def read(response: httpx.Response, model: type[Model], item: Any = None) -> Model:
    """An answer's document, or an item of it; raises `ServiceError` for one of another form."""
    try:
        if item is not None:
            return model.model_validate(item)
        return model.model_validate_json(response.content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise not_understood(response, ": ".join(filter(None, (place, first["msg"])))) from error


def pause(number: int) -> float:
    """Seconds before the next try, after `number` that were repeats: longer each time."""
    return min(FIRST_PAUSE * 2.0**number, LONGEST_PAUSE)


def retry_after(response: httpx.Response) -> float | None:
    """Seconds that an answer asks to wait, from a number or a date; None where it says nothing."""
    given = response.headers.get("retry-after", "").strip()
    if given.isascii() and given.isdigit():
        return float(given[:9])
    try:
        when = email.utils.parsedate_to_datetime(given)
    except ValueError:
        return None
    return max(0.0, when.timestamp() - time.time())


def base_url(url: object) -> str:
    """A service's address without what follows it; raises `SpecError` for what can be none."""
    allowed = "allowed: http://HOST:PORT or https://HOST:PORT"
    text = url.strip() if isinstance(url, str) else ""
    try:
        parts, parsed = urlsplit(text), httpx.URL(text)
        # Reading the port tells whether it is one.
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except (ValueError, httpx.InvalidURL):
        raise SpecError(f"url: {_without_user(url)!r} given; {allowed}") from None
    if parsed.userinfo:
        raise SpecError(f"url: user names and passwords do not belong into it; {allowed}")
    if not usable or parts.query or parts.fragment:
        raise SpecError(f"url: {url!r} given; {allowed}")
    return str(parsed).rstrip("/").removesuffix(PREFIX)


def _without_user(url: object) -> object:
    return f"...@{url.rpartition('@')[2]}" if isinstance(url, str) and "@" in url else url


def checked_token(token: object) -> str:
    """The token; raises `NotAllowed`, without showing it, where it can be none."""
    text = token.strip() if isinstance(token, str) else ""
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        raise NotAllowed("token: that is none: printable ASCII without blanks is needed")
    return text
