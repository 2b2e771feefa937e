"""How is a service asked from Python: submit, follow, look at, and take what was found home?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from nas.client import streams
from nas.client.answers import (
    Artifact,
    Config,
    DryRun,
    Fidelity,
    Front,
    History,
    ListedSearch,
    Operation,
    Search,
    Trial,
)
from nas.client.catalog import (
    Attention,
    Health,
    Part,
    Space,
    SpaceDetail,
    SpaceOutlook,
    Task,
    Version,
)
from nas.client.download import download
from nas.client.problems import document_of, error_of, not_understood
from nas.client.requests import plain_json, request_json, space_json
from nas.client.streams import Event, LogLine
from nas.client.transport import Model, Transport, path, read
from nas.client.waiting import Listener, TextBar, wait
from nas.errors import SpecError
from nas.search.spec import SearchSpec
from nas.space.search_space import SearchSpace
from nas.store.store import ID_LENGTH

PAGE = 200
MOST_IN_A_PAGE = 1000
TIMEOUT_SECONDS = 30.0
RETRIES = 6
PATIENCE_SECONDS = 600.0


class Client:
    """One service, by its address and, where it wants one, a token.

    `timeout` is in seconds, for each answer; `retries` is how often a request is sent again where
    the line drops, or the service is away or asked too often. What changes something is done once
    however often it is sent. Threads may share a client; it can be used in a `with` block.

    Every method raises `ServiceUnavailable` where no answer comes, `NotAllowed` where the token
    does not do, `SpecError` for what is wrong with what was given, `SearchNotFound` for a search
    that is not there, `SearchStateError` where a state forbids what was asked, and `ServiceError`
    with its status for everything else. A search is named by its id, by six or more of its first
    characters, or as `last`, the newest.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        timeout: float = TIMEOUT_SECONDS,
        retries: int = RETRIES,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._transport = Transport(
            url, token, timeout=timeout, retries=retries, transport=transport
        )

    def __repr__(self) -> str:
        return f"<Client of {self.url}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def url(self) -> str:
        """The service's address."""
        return self._transport.url

    def close(self) -> None:
        """Ends all connections."""
        self._transport.close()

    # -- searches ----------------------------------------------------------------------------------

    def submit(
        self,
        spec: SearchSpec | str | Path | Mapping[str, Any],
        changes: Mapping[str, Any] | None = None,
        *,
        warm_start: str | None = None,
        key: str | None = None,
    ) -> ListedSearch:
        """Submits a request, from a YAML file's path or a mapping, with `changes` by key path.

        It begins with the front of the search `warm_start`. A request that is sent again under the
        same `key` is the same search; without one each call makes a search.
        """
        content = plain_json(request_json(spec, changes), "spec")
        params = {"warm_start": warm_start}
        sent = self._transport.ask("POST", "/searches", params=params, content=content, key=key)
        return read(sent, ListedSearch)

    def check(
        self,
        spec: SearchSpec | str | Path | Mapping[str, Any],
        changes: Mapping[str, Any] | None = None,
        *,
        warm_start: str | None = None,
    ) -> DryRun:
        """What a request would look through, submitting nothing; raises `SpecError` for a bad one.

        `NothingFeasible` where no architecture of its space keeps the constraints.
        """
        content = plain_json(request_json(spec, changes), "spec")
        params = {"dry_run": "true", "warm_start": warm_start}
        sent = self._transport.ask("POST", "/searches", params=params, content=content)
        return read(sent, DryRun)

    def get(self, search: str) -> Search:
        """A search as it stands."""
        return self._transport.get(path("searches", search), Search)

    def searches(
        self,
        *,
        state: str | Sequence[str] | None = None,
        name: str | None = None,
        owner: str | None = None,
        page_size: int = PAGE,
    ) -> Iterator[ListedSearch]:
        """All searches in one of these states, of a name, of an owner, the newest first."""
        states = [state] if isinstance(state, str) else list(state or ()) or None
        asked = {"state": states, "name": name, "owner": owner}
        return self._transport.items("/searches", ListedSearch, page_size, **asked)

    def pause(self, search: str) -> ListedSearch:
        """Pauses a search: what it has done is kept, its machines are given back."""
        return self._post(path("searches", search, "pause"), ListedSearch)

    def resume(self, search: str) -> ListedSearch:
        """Goes on with a paused search from where it stands."""
        return self._post(path("searches", search, "resume"), ListedSearch)

    def cancel(self, search: str) -> ListedSearch:
        """Cancels a search for good; its trials are kept."""
        return self._post(path("searches", search, "cancel"), ListedSearch)

    def delete(self, search: str) -> None:
        """Deletes a search that has ended, with its trials and its files."""
        # Asked for again after a lost answer, `last` would be the next one.
        id = search if len(search) == ID_LENGTH else self.get(search).id
        self._transport.ask("DELETE", path("searches", id))

    def wait(
        self,
        search: str,
        listener: Listener | None = None,
        *,
        bar: bool = False,
        timeout: float | None = None,
        until: Callable[[Search], bool] | None = None,
        every: float = 1.0,
        patience: float = PATIENCE_SECONDS,
    ) -> Search:
        """Waits until a search has ended, or `until` holds of it, and gives it as it is then.

        It is asked for `every` so many seconds, and `listener` hears of it each time; `bar` draws a
        bar on standard error. After `timeout` seconds it is given as it is. A service that is away
        is waited for, `patience` seconds at most.
        """
        told = listener or (TextBar() if bar else lambda _: None)
        done = until or (lambda found: found.ended)
        # Named `last`, it might be another one by the time that this one has ended.
        id = self.get(search).id
        return wait(
            lambda: self.get(id), done, told, every=every, timeout=timeout, patience=patience
        )

    # -- what was found ----------------------------------------------------------------------------

    def trials(
        self,
        search: str,
        *,
        role: str | None = None,
        state: str | None = None,
        page_size: int = MOST_IN_A_PAGE,
    ) -> Iterator[Trial]:
        """A search's trials of a role, in a state, in the order in which they came."""
        asked = {"role": role, "state": state}
        return self._transport.items(path("searches", search, "trials"), Trial, page_size, **asked)

    def trial(self, id: str) -> Trial:
        """One trial, by its id: `SEARCH.ROLE.INDEX`."""
        return self._transport.get(path("trials", id), Trial)

    def front(self, search: str, constraints: Sequence[str] = ()) -> Front:
        """The Pareto front as it stands, of those that keep further constraints.

        A constraint is `METRIC <= NUMBER` or `METRIC >= NUMBER`; `frame()` of what is given makes a
        DataFrame of it.
        """
        if isinstance(constraints, str):
            raise SpecError(f"constraints: {constraints!r} given; a list of texts is allowed")
        wanted = list(constraints) or None
        return self._transport.get(path("searches", search, "pareto"), Front, constraint=wanted)

    def history(self, search: str) -> History:
        """The hypervolume after each trial, beside that of the random control."""
        return self._transport.get(path("searches", search, "pareto", "history"), History)

    def fidelity(self, search: str) -> Fidelity:
        """How far the ranking and predicted costs can be trusted."""
        return self._transport.get(path("searches", search, "fidelity"), Fidelity)

    def pareto_html(self, search: str) -> str:
        """The report's page, which needs nothing beside it."""
        return self._transport.ask("GET", path("searches", search, "pareto.html")).text

    def config(self, architecture_id: str) -> Config:
        """An architecture, its exact costs, and the trials of it."""
        return self._transport.get(path("configs", architecture_id), Config)

    def artifacts(self, search: str) -> list[Artifact]:
        """A search's files by name."""
        return list(self._transport.items(path("searches", search, "artifacts"), Artifact))

    def download(self, artifact: Artifact, to: str | Path = ".") -> Path:
        """Writes an artifact's file, whole or not at all, and gives its path.

        `to` is that path, or a folder that is there. A line that drops is taken up again where it
        was. Raises `DataError` where the bytes are not those of the artifact's SHA-256 and
        `OutputError` where they cannot be written.
        """
        return download(self._transport, artifact, to)

    # -- as it happens -----------------------------------------------------------------------------

    def events(
        self, search: str, after: int = 0, *, patience: float = PATIENCE_SECONDS
    ) -> Iterator[Event]:
        """What happened in a search and what happens, up to its end: those with ids above `after`.

        Each comes once and in order, also where the line drops or the service is away for
        `patience` seconds at most.
        """
        at = path("searches", self.get(search).id, "events")
        return streams.follow(self._transport, at, after=after, patience=patience)

    def logs(
        self, search: str, after: int = 0, *, patience: float = PATIENCE_SECONDS
    ) -> Iterator[LogLine]:
        """What the jobs of a search wrote and write, line by line, up to its end; as `events`."""
        at = path("searches", self.get(search).id, "logs")
        followed = streams.follow(self._transport, at, after=after, patience=patience)
        return streams.log_lines(followed)

    # -- operations --------------------------------------------------------------------------------

    def operation(self, id: str) -> Operation:
        """How far work is that was asked for beside a search."""
        return self._transport.get(path("operations", id), Operation)

    def cancel_operation(self, id: str) -> Operation:
        """Cancels an operation that has not ended."""
        return self._post(path("operations", id, "cancel"), Operation)

    # -- spaces and catalog ------------------------------------------------------------------------

    def spaces(self) -> list[Space]:
        """All spaces that the service knows, by name."""
        return list(self._transport.items("/spaces", Space))

    def space(self, name: str) -> SpaceDetail:
        """A space with all of its choices."""
        return self._transport.get(path("spaces", name), SpaceDetail)

    def validate_space(
        self,
        space: SearchSpace | str | Path | Mapping[str, Any],
        task: str | Mapping[str, Any] | None = None,
        constraints: Sequence[str] = (),
    ) -> SpaceOutlook:
        """What a space holds and, for a task, costs; a name is one that the service knows.

        Under constraints also the share of architectures that keep them. Raises `SpecError` for a
        space that is none.
        """
        asked: dict[str, Any] = {"space": space_json(space)}
        if task is not None:
            asked["task"] = task
        if constraints:
            asked["constraints"] = list(constraints)
        content = plain_json(asked, "space")
        return self._post("/spaces/validate", SpaceOutlook, content)

    def tasks(self) -> list[Task]:
        """What networks can be for."""
        return list(self._transport.items("/tasks", Task))

    def attentions(self) -> list[Attention]:
        """What can stand in a layer's attention slot."""
        return list(self._transport.items("/attentions", Attention))

    def strategies(self) -> list[Part]:
        """What can propose architectures."""
        return list(self._transport.items("/strategies", Part))

    def exporters(self) -> list[Part]:
        """What networks can be exported to."""
        return list(self._transport.items("/exporters", Part))

    # -- the service itself ------------------------------------------------------------------------

    def version(self) -> Version:
        """What the service runs."""
        return self._transport.get("/version", Version)

    def health(self) -> Health:
        """Whether the service can do its work now; raises `ServiceUnavailable` where none answers.

        It is asked once, for it is well that one that is away says so.
        """
        found = self._transport.answer("GET", "/readyz")
        checks = (document_of(found) or {}).get("checks")
        if isinstance(checks, dict):
            return Health(ready=found.is_success, checks=checks)
        raise not_understood(found, "no checks") if found.is_success else error_of(found)

    def _post(self, at: str, model: type[Model], content: bytes | None = None) -> Model:
        return read(self._transport.ask("POST", at, content=content), model)
