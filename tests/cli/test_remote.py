"""Does `--server` do the same against a service, and leave a search to run when it is left?"""

import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from nas.run.workspace import workspace
from nas.store.sql import SqlStore
from nas_services.app import create_app
from nas_services.dependencies import Services
from nas_services.settings import Settings
from tests.cli.conftest import Finished
from tests.cli.terminal import SMALL, nas, refused, written
from tests.cli.test_bare_install import bare
from tests.client.live import serving
from tests.services.launcher import StubLauncher
from tests.services.records import add_trials, new_search, services_of, set_state

NOBODY = "http://127.0.0.1:1"


@pytest.fixture
def launcher() -> StubLauncher:
    """What the service starts jobs with."""
    return StubLauncher()


@pytest.fixture
def app(tmp_path: Path, launcher: StubLauncher) -> FastAPI:
    """The service; nothing runs but what a test does itself."""
    settings = Settings(place=workspace(tmp_path / "home"))
    return create_app(settings, launcher=launcher, start_reconciler=False)


@pytest.fixture
def services(app: FastAPI) -> Services:
    """The service's parts."""
    return services_of(app)


@pytest.fixture
def url(app: FastAPI) -> Iterator[str]:
    """Where the service listens."""
    with serving(app) as found:
        yield found


@pytest.fixture
def of_finished(finished: Finished) -> Iterator[str]:
    """A service with the home of the finished search."""
    settings = Settings(place=workspace(finished.home))
    app = create_app(settings, launcher=StubLauncher(), start_reconciler=False)
    with serving(app) as found:
        yield found


def while_it_waits(monkeypatch: pytest.MonkeyPatch, *steps: Callable[[], Any]) -> None:
    """Each time that a command waits a step is taken instead."""
    left = list(steps)

    def sleep(_seconds: float) -> None:
        if threading.current_thread() is threading.main_thread():
            left.pop(0)()

    monkeypatch.setattr("time.sleep", sleep)


def interrupt() -> None:
    """Ctrl-C."""
    raise KeyboardInterrupt


# -- what was found --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        ["--best"],
        [],
        ["--constraint", "flops <= 2e5"],
        ["--constraint", "flops <= 1"],
        ["--constraint", "flops < 1"],
        ["--constraint", "wonder <= 1"],
    ],
)
def test_a_front_is_the_same_from_here_and_from_there(
    finished: Finished, of_finished: str, options: list[str]
) -> None:
    here = nas("pareto", finished.id, *options, "--home", finished.home)
    there = nas("pareto", finished.id[:10], *options, "--server", of_finished)
    assert there == here


def test_json_and_page_are_the_same_but_for_where_files_are(
    finished: Finished, of_finished: str, tmp_path: Path
) -> None:
    pages = [tmp_path / "here.html", tmp_path / "there.html"]
    here = nas("pareto", "last", "--json", "--html", pages[0], "--home", finished.home).json
    there = nas("pareto", "last", "--json", "--html", pages[1], "--server", of_finished).json
    files, served = here.pop("files"), there.pop("files")
    assert there == here
    assert set(served) == set(files)
    assert all(each.startswith(f"{of_finished}/api/v1/artifacts/") for each in served.values())
    # Of a search that no service ran nobody counts how often it was taken up.
    runs = r"(<t[hd]>runs</t[hd]>)<td>\d+</td>"
    texts = [re.sub(runs, r"\1", page.read_text()) for page in pages]
    assert texts[0] == texts[1]


def test_a_service_is_asked_without_the_engine(finished: Finished, of_finished: str) -> None:
    server = ("--server", of_finished)
    commands: dict[str, list[Any]] = {
        "list": ["list", *server],
        "pareto": ["pareto", finished.id, *server],
        "search": ["search", "--resume", finished.id, *server],
    }
    for name, said in bare(commands).items():
        assert said["code"] == 0, (name, said)
        assert said["out"] == nas(*commands[name]).out, name


def test_searches_are_listed(services: Services, url: str) -> None:
    assert nas("list", "--server", url).out.startswith(f"no search yet at {url}")
    made = [new_search(services, owner="alice"), new_search(services, owner="bob")]
    set_state(services, made[0], "running", phase="search")
    found = nas("list", "--json", "--server", url).json
    assert [(each["id"], each["owner"], each["state"]) for each in found] == [
        (made[1], "bob", "queued"),
        (made[0], "alice", "running"),
    ]
    rows = [line for line in nas("list", "--server", url).out.splitlines() if made[0] in line]
    assert "running" in rows[0]
    assert "0 of " in rows[0]


# -- nas search ------------------------------------------------------------------------------------


def test_a_search_is_followed_to_its_front(
    finished: Finished,
    services: Services,
    url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept = SqlStore(workspace(finished.home).record_url)
    trials = kept.trials(finished.id)
    searched = [each for each in trials if each.role == "search"]
    others = [each for each in trials if each.role != "search"]

    def newest() -> str:
        return services.store.get("last").id

    while_it_waits(
        monkeypatch,
        lambda: set_state(services, newest(), "running", phase="supernet"),
        lambda: set_state(services, newest(), "running", phase="search"),
        lambda: add_trials(services, newest(), searched),
        lambda: set_state(services, newest(), "running", phase="controls"),
        lambda: add_trials(services, newest(), others),
        lambda: set_state(services, newest(), "running", phase="report"),
        lambda: set_state(services, newest(), "succeeded", phase="report"),
    )
    spec = written(tmp_path / "spec.yaml", {**SMALL, "seed": 99})
    said = nas("search", spec, "--set", "seed=3", "--server", url)
    assert said.code == 0, said.err
    id = newest()
    assert services.store.get(id).spec == kept.get(finished.id).spec
    kept.close()
    assert said.err.splitlines() == [
        f"search {id}",
        "training the supernet: 1 of 1 running",
        "scoring the search: 15 of 15 running",
        "scoring random controls: 6 of 6 running",
        "writing the report: 1 of 1 succeeded",
    ]
    table = nas("pareto", id, "--server", url).out
    assert said.out.startswith(table.rstrip("\n"))
    assert f"page     {url}/searches/{id}" in said.out
    assert f"nas pareto {id} --best --server {url} > best.json" in said.out
    # Whoever comes later, as after Ctrl-C, gets the same at once.
    assert nas("search", "--resume", id[:8], "--server", url).out == said.out
    assert nas("search", "--resume", id, "--json", "--server", url).json["state"] == "succeeded"


def test_ctrl_c_leaves_the_search_to_run(
    services: Services, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    while_it_waits(monkeypatch, interrupt)
    said = nas("search", written(tmp_path / "spec.yaml", SMALL), "--server", url)
    id = services.store.get("last").id
    assert (said.code, said.out) == (130, "")
    assert f"search {id} goes on at {url}" in said.err
    assert f"nas search --resume {id} --server {url}" in said.err
    assert f"nas cancel {id} --server {url}" in said.err
    assert services.serving.wish(id).desired == "run"


def test_a_search_is_left_at_once(services: Services, url: str, tmp_path: Path) -> None:
    spec = written(tmp_path / "spec.yaml", SMALL)
    said = nas("search", spec, "--detach", "--server", url)
    id = services.store.get("last").id
    assert (said.code, said.out) == (0, f"{id}\n")
    assert f"nas search --resume {id} --server {url}" in said.err
    assert nas("search", spec, "--detach", "--json", "--server", url).json["state"] == "queued"


@pytest.mark.parametrize(
    ("state", "said", "code"),
    [
        ("failed", "failed: the disk is full", 1),
        ("cancelled", "was cancelled", 1),
        ("succeeded", "", 3),
    ],
)
def test_the_end_is_the_exit_code(
    services: Services,
    url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    state: Any,
    said: str,
    code: int,
) -> None:
    error = "the disk is full" if state == "failed" else None
    while_it_waits(
        monkeypatch, lambda: set_state(services, services.store.get("last").id, state, error=error)
    )
    ended = nas("search", written(tmp_path / "spec.yaml", SMALL), "--server", url)
    assert ended.code == code, ended
    assert said in ended.err
    assert "Traceback" not in ended.err


def test_a_paused_search_is_left_and_taken_up(
    services: Services, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = written(tmp_path / "spec.yaml", SMALL)
    id = nas("search", spec, "--detach", "--server", url).out.strip()
    assert nas("pause", id, "--server", url).code == 0
    while_it_waits(monkeypatch, lambda: set_state(services, id, "paused"), interrupt)
    # To follow it is to want that it goes on.
    said = nas("search", "--resume", id, "--server", url)
    assert said.code == 130
    assert services.serving.wish(id).desired == "run"
    while_it_waits(monkeypatch, lambda: nas("pause", id, "--server", url))
    said = nas("search", "--resume", id, "--server", url)
    assert said.code == 130
    assert f"search {id} was paused; go on with: nas search --resume {id}" in said.err


def test_a_request_is_checked(services: Services, url: str, tmp_path: Path) -> None:
    spec = written(tmp_path / "spec.yaml", {**SMALL, "constraints": ["flops <= 2e5"]})
    said = nas("search", spec, "--dry-run", "--server", url)
    here = nas("search", spec, "--dry-run")
    assert said.out.startswith(here.out)
    assert "feasible: " in said.out
    as_json = nas("search", spec, "--dry-run", "--json", "--server", url)
    assert as_json.json == nas("search", spec, "--dry-run", "--json").json
    assert services.store.searches() == []


def test_a_warm_start_is_passed_on(services: Services, url: str, tmp_path: Path) -> None:
    spec = written(tmp_path / "spec.yaml", SMALL)
    first = nas("search", spec, "--detach", "--server", url).out.strip()
    second = nas("search", spec, "--detach", "--warm-start", "last", "--server", url).out.strip()
    assert services.store.get(second).warm_start == first


# -- verbs -----------------------------------------------------------------------------------------


def test_verbs(services: Services, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAS_SERVER", url)
    id = new_search(services)
    assert nas("pause", id).out == f"search {id} is queued; pause is wanted of it\n"
    assert nas("resume", "last", "--json").json["desired"] == "run"
    assert nas("cancel", id[:8]).out == f"search {id} is cancelling; cancel is wanted of it\n"
    refused(nas("resume", id), "cancelling", "resume is not possible")


def test_logs(
    services: Services, url: str, launcher: StubLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services.hub.logs, "seconds", 0.02)
    id = new_search(services)
    attempt = services.serving.begin_attempt(id, 0)
    assert attempt is not None
    launcher.written[attempt.job] = "one\n\x1b[32mtwo\x1b[0m\t\x07three\x1b]0;title\x07\nö\n"
    services.serving.end_attempt(id, 1, "done")
    set_state(services, id, "succeeded")
    # Nothing that a terminal would obey.
    assert nas("logs", id, "--server", url).out == "one\ntwo\tthree]0;title\nö\n"


@pytest.mark.parametrize("command", ["pause", "resume", "cancel", "logs"])
def test_a_verb_needs_a_service(command: str) -> None:
    refused(nas(command, "last"), f"nas {command}: --server URL or NAS_SERVER is needed")


# -- who is asked ----------------------------------------------------------------------------------


def test_a_home_that_is_named_is_looked_at_here(
    finished: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAS_SERVER", NOBODY)
    assert finished.id in nas("list", "--home", finished.home).out
    for command in (["list"], ["pareto", "last"]):
        refused(nas(*command, "--server", NOBODY, "--home", finished.home), "--server and --home")
    monkeypatch.setenv("NAS_SERVER", "")
    assert nas("list", "--json", "--home", finished.home).code == 0


@pytest.mark.parametrize("options", [["--detach"], ["--detach", "--dry-run", "--server", NOBODY]])
def test_nothing_is_left_that_runs_nowhere(tmp_path: Path, options: list[str]) -> None:
    spec = written(tmp_path / "spec.yaml", SMALL)
    refused(nas("search", spec, *options), "--detach", "--server URL")


@pytest.mark.parametrize(
    "command", [["list"], ["pareto", "last"], ["pause", "last"], ["search", "SPEC"]]
)
def test_a_service_that_does_not_answer_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    written(tmp_path / "SPEC", SMALL)
    given = [str(tmp_path / each) if each == "SPEC" else each for each in command]
    refused(nas(*given, "--server", NOBODY), f"service {NOBODY} does not answer")
    refused(nas(*given, "--server", "nonsense"), "url: 'nonsense' given", "http://HOST:PORT")


def test_the_token_is_the_one_of_the_environment(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    guarded = create_app(
        replace(services.settings, require_tokens=True),
        launcher=StubLauncher(),
        start_reconciler=False,
    )
    home = ("--home", services.settings.place.root)
    new_search(services)
    with serving(guarded) as url:
        refused(nas("list", "--server", url), "A token is needed", "NAS_TOKEN")
        monkeypatch.setenv("NAS_TOKEN", "a b")
        refused(nas("list", "--server", url), "NAS_TOKEN")
        secret = nas("token", "create", "reader", "--scope", "read", *home).out
        monkeypatch.setenv("NAS_TOKEN", secret)
        assert len(nas("list", "--json", "--server", url).json) == 1
        refused(nas("cancel", "last", "--server", url), "scope submit is needed", "NAS_TOKEN")
        nas("token", "revoke", "reader", *home)
        said = nas("list", "--server", url)
        refused(said, "not valid")
        assert secret.strip() not in said.err


def test_a_wrong_request_is_told_by_its_places(
    services: Services, url: str, tmp_path: Path
) -> None:
    spec = written(tmp_path / "spec.yaml", {**SMALL, "tsk": 3})
    refused(nas("search", spec, "--server", url), "/tsk: ")
    refused(nas("search", tmp_path / "none.yaml", "--server", url), "none.yaml", "cannot be read")
    refused(nas("pareto", "01JD0000", "--server", url), "no search")
    assert json.loads(nas("list", "--json", "--server", url).out) == []
    assert services.store.searches() == []
