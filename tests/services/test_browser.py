"""Do the pages work in a real browser: do they follow a search, obey a click, and fit a phone?"""

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fastapi import FastAPI

from nas_services.app import create_app
from nas_services.dependencies import Services
from nas_services.settings import Settings
from tests.client.live import serving
from tests.report.samples import controls, request, searched
from tests.services.launcher import StubLauncher
from tests.services.records import (
    add_trials,
    import_trials,
    new_search,
    scored,
    services_of,
    set_state,
)

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FOUND = next(filter(None, map(shutil.which, NAMES)), None)
# It calls nobody but the service.
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
# When the page asked for its parts, in milliseconds.
ASKED = """() => performance.getEntriesByType("resource")
  .filter((each) => each.name.endsWith("/front.html")).map((each) => each.startTime)"""
WIDTHS, SCHEMES = (1200, 360), ("light", "dark")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(FOUND is None, reason=f"none of {', '.join(NAMES)} is installed"),
]


@pytest.fixture(scope="module")
def chromium() -> Iterator["Browser"]:
    """A browser without a window."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=FOUND, args=list(ARGUMENTS))
        yield found
        found.close()


@pytest.fixture
def services(app: FastAPI) -> Services:
    """The service's parts."""
    return services_of(app)


@pytest.fixture
def address(app: FastAPI) -> Iterator[str]:
    """Where the service is served."""
    with serving(app) as found:
        yield found


Opened = Callable[..., "Page"]


@pytest.fixture
def opened(chromium: "Browser", address: str) -> Iterator[Opened]:
    """Opens a page; whatever its console says, or it asks of anybody else, fails the test."""
    said: list[str] = []
    contexts = []

    def elsewhere(url: str) -> None:
        if not url.startswith(address):
            said.append(url)

    def found(path: str, **more: Any) -> "Page":
        context = chromium.new_context(**more)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda asked: elsewhere(asked.url))
        page.goto(f"{address}{path}")
        return page

    yield found
    for context in contexts:
        context.close()
    assert said == []


def waited(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Until it holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def front_rows(page: "Page") -> int:
    return page.locator("#front tr[data-trial]").count()


def test_the_front_grows_while_the_page_is_open(services: Services, opened: Opened) -> None:
    id = new_search(services)
    set_state(services, id, "running", phase="search")
    page = opened(f"/searches/{id}")
    assert "No network is scored yet" in page.inner_text("#front")
    for index in range(30):
        add_trials(services, id, [scored(index, 2.0 / (1 + index), 1e6 * (1 + index))])
    waited(lambda: front_rows(page) == 30)
    assert page.locator("#front circle[cx]").count() == 30
    assert page.inner_text("#progress").split()[-3:] == ["30", "of", "20"]
    # However fast they came, at most once a second.
    asked = page.evaluate(ASKED)
    assert all(after - before >= 990 for before, after in pairwise(asked))
    set_state(services, id, "succeeded", phase="report")
    waited(lambda: "succeeded" in page.inner_text("#state"))
    assert page.locator("#verbs form").count() == 0


def test_a_press_on_pause_changes_the_state(services: Services, opened: Opened) -> None:
    id = new_search(services)
    set_state(services, id, "running", phase="search")
    page = opened(f"/searches/{id}")
    page.click("text=Pause")
    page.wait_for_selector("#verb-resume")
    assert services.serving.wish(id).desired == "pause"
    assert "a pause is asked for" in page.inner_text("#state")
    # By whoever holds the search, while the page is open; the focus stays where it was.
    page.focus("#verb-resume")
    set_state(services, id, "paused")
    waited(lambda: "paused" in page.inner_text("#state"))
    assert page.evaluate("document.activeElement.id") == "verb-resume"
    page.keyboard.press("Enter")
    page.wait_for_selector("#verb-pause")
    assert services.serving.wish(id).desired == "run"
    # To cancel takes two steps, by the keyboard too.
    page.focus("#verb-cancel")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    waited(lambda: services.serving.wish(id).desired == "cancel")
    waited(lambda: "cancelling" in page.inner_text("#state"))


def test_an_opened_part_stays_open_and_another_page_is_followed(
    services: Services, opened: Opened
) -> None:
    id = new_search(services)
    set_state(services, id, "running", phase="search")
    page = opened(f"/searches/{id}")
    page.click("#verb-cancel")
    add_trials(services, id, [scored(0, 1.0, 1e6)])
    waited(lambda: front_rows(page) == 1)
    assert page.is_visible("text=Cancel for good")
    # Somebody else cancels it.
    with services.serving.once("local", None, "") as once:
        once.set_desired(id, "cancel")
    waited(lambda: page.locator("#verbs form").count() == 0)
    assert page.locator("#state[role=status]").count() == 1


def test_the_list_follows_too(services: Services, opened: Opened) -> None:
    page = opened("/")
    assert "There are no searches yet" in page.inner_text("#list")
    id = new_search(services)
    page.wait_for_selector(f"#list a[href='/searches/{id}']")


def test_the_first_tab_leads_past_the_top(services: Services, opened: Opened) -> None:
    page = opened(f"/searches/{new_search(services)}")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Tab")
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert page.evaluate(outline) != "none"


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_pages_fit_a_screen_and_can_be_read(
    services: Services, opened: Opened, tmp_path: Path, width: int, scheme: str
) -> None:
    spec, free = request(constraints=["flops <= 9e7"]), request()
    id = new_search(services, **spec.to_json())
    import_trials(services, id, searched(free, 60) + controls(free, 30, 3))
    set_state(services, id, "running", phase="search")
    size = {"width": width, "height": 800}
    for path in ("/", f"/searches/{id}", "/login", f"/searches/{id}/log"):
        page = opened(path, viewport=size, color_scheme=scheme)
        # Nothing is cut off at the side, and nothing is too small to be read or pressed.
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert page.evaluate(SMALLEST_TEXT) >= 9.5
        assert page.evaluate(LOWEST_BUTTON) >= 34
        assert page.evaluate(WORST_CONTRAST) >= 4.5
        assert page.screenshot(path=tmp_path / "page.png", full_page=True)


SMALLEST_TEXT = """() => Math.min(...[...document.querySelectorAll("main *")]
  .filter((each) => [...each.childNodes].some((n) => n.nodeType === 3 && n.data.trim()))
  .filter((each) => each.getClientRects().length)
  .map((each) => {
    const drawn = each.closest(".strips svg");
    const scale = drawn ? drawn.getBoundingClientRect().width / drawn.viewBox.baseVal.width : 1;
    return parseFloat(getComputedStyle(each).fontSize) * scale;
  }))"""
LOWEST_BUTTON = """() => Math.min(99, ...[...document.querySelectorAll("button, .cancel > summary")]
  .filter((each) => each.getClientRects().length)
  .map((each) => each.getBoundingClientRect().height))"""
# Of text outside of pictures against the paper or what is raised from it (WCAG 2.2, 1.4.3).
WORST_CONTRAST = """() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = (rgb) => rgb.slice(0, 3).map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const below = (each) => {
    for (; each; each = each.parentElement) {
      const found = parse(getComputedStyle(each).backgroundColor);
      if (found.length < 4 || found[3] > 0) return found;
    }
    return [255, 255, 255];
  };
  return Math.min(...[...document.querySelectorAll("body *")]
    .filter((each) => !each.closest("svg, .skip") && each.getClientRects().length)
    .filter((each) => [...each.childNodes].some((n) => n.nodeType === 3 && n.data.trim()))
    .map((each) => {
      const [a, b] = [parse(getComputedStyle(each).color), below(each)].map(light)
        .sort((x, y) => y - x);
      return (a + 0.05) / (b + 0.05);
    }));
}"""


def test_a_browser_logs_in_and_out(
    settings: Settings, launcher: StubLauncher, chromium: "Browser"
) -> None:
    guarded = replace(settings, require_tokens=True)
    app = create_app(guarded, launcher=launcher, start_reconciler=False)
    services = services_of(app)
    _, secret = services.serving.add_token("somebody", ["submit"])
    id = new_search(services, owner="somebody")
    with serving(app) as address:
        context = chromium.new_context()
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.goto(f"{address}/searches/{id}")
        assert page.url == f"{address}/login?next=/searches/{id}"
        # Who comes can type at once.
        page.wait_for_function("document.activeElement.id === 'token'")
        page.keyboard.type("wrong")
        page.keyboard.press("Enter")
        page.wait_for_selector("#failed")
        page.goto(f"{address}/searches/{id}")
        page.fill("#token", secret)
        page.keyboard.press("Enter")
        page.wait_for_url(f"{address}/searches/{id}")
        page.click("#verb-pause")
        page.wait_for_selector("#verb-resume")
        assert services.serving.wish(id).desired == "pause"
        # A token that is revoked while a page is open ends it at the next thing to be shown.
        services.serving.revoke_token("somebody")
        set_state(services, id, "paused")
        page.wait_for_url(f"{address}/login?next=/searches/{id}")
        context.close()
