"""The dashboard in a real browser, on the example's three systems."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest

from handlers.auth import ensure_first_keys
from handlers.dashboard.routes import PAGES
from handlers.request import Witness
from handlers.tick import tick
from store import LEASES, REGISTRY, inventory_of
from tests.browser import chromium, example, served
from tests.witness import ADMIN

HOSTILE = '<img src=x onerror="window.hacked=1">\'&'
WIDE, NARROW = {"width": 1400, "height": 900}, {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One browser for all tests of this module."""
    with chromium() as started:
        yield started


class Visitor:
    """A window of the browser, on a witness of its own; it notes every request, and everything that went wrong."""

    def __init__(self, browser: Any, witness: Witness, address: str) -> None:
        self.browser, self.witness, self.address = browser, witness, address
        self.requests: list[str] = []
        self.troubles: list[str] = []
        self.page: Any = None

    def open(self, viewport: dict[str, int] = WIDE, scheme: str = "light", **options: Any) -> Any:
        """A new window, nobody signed in."""
        context = self.browser.new_context(viewport=viewport, color_scheme=scheme, **options)
        context.set_default_timeout(20_000)
        self.page = context.new_page()
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.troubles.append(str(error)))
        self.page.on("console", lambda said: self.troubles.append(said.text) if said.type == "error" else None)
        return self.page

    def sign_in(self, **options: Any) -> Any:
        """A new window with an admin in it."""
        page = self.open(**options)
        page.goto(f"{self.address}/")
        page.get_by_label("API key").fill(ADMIN)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url(f"{self.address}/dashboard")
        return page

    def paths(self) -> list[str]:
        """Every page there is, with ids that exist."""
        group = self.page.locator(".group a").first.get_attribute("href")
        self.page.goto(f"{self.address}/dashboard/conflicts")
        conflict = self.page.locator(".troubles a").first.get_attribute("href")
        self.page.goto(f"{self.address}/dashboard/systems")
        system = self.page.locator("tbody th a").first.get_attribute("href")
        skipped = ("/dashboard/agent", "/dashboard/sign-in")
        fixed = [page.path for page in PAGES if page.method == "GET" and "<" not in page.path]
        fixed = [path for path in fixed if path.startswith("/dashboard") and path not in skipped]
        return [*fixed, group, f"{group}?q=photos&state=trouble", f"{group}/dataset?path=documents", conflict, system]


@pytest.fixture
def visitor(browser: Any, tmp_path: Path) -> Iterator[Visitor]:
    """A window on the example; afterwards nothing may have gone wrong, and no request have gone elsewhere."""
    witness = example(tmp_path)
    ensure_first_keys(witness.store, witness.config, datetime.now(UTC))
    with served(witness) as address:
        visiting = Visitor(browser, witness, address)
        yield visiting
        for context in browser.contexts:
            context.close()
        assert {urlsplit(url).netloc for url in visiting.requests} == {urlsplit(address).netloc}
        assert visiting.troubles == []


def test_a_morning(visitor: Visitor) -> None:
    page = visitor.sign_in()
    assert page.locator("h1").inner_text() == "1 copy needs you, and 7 are late"
    assert "documents on backup" in page.locator(".troubles").inner_text()
    page.locator(".group a", has_text="backup").click()
    row = page.locator("tr", has=page.get_by_role("rowheader", name="photos"))
    assert "late" in row.locator("td.late").inner_text()
    row.get_by_role("link").click()
    picture = page.locator("svg.timeline:visible")
    assert "27 missing" in (picture.get_attribute("aria-label") or "")
    assert picture.locator("circle.base").count() == 1
    assert picture.locator("text.host").all_text_contents() == ["nas source", "backup late"]
    page.get_by_role("button", name="Sign out").click()
    page.goto(f"{visitor.address}/dashboard")
    assert page.get_by_label("API key").is_visible()


def test_a_wrong_key_and_then_the_right_one_lead_where_one_wanted_to_go(visitor: Visitor) -> None:
    page = visitor.open()
    page.goto(f"{visitor.address}/dashboard/systems")
    page.get_by_label("API key").fill("admin.wrong")
    page.get_by_role("button", name="Sign in").click()
    assert "not known here" in page.get_by_role("alert").inner_text()
    page.get_by_label("API key").fill(ADMIN)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"{visitor.address}/dashboard/systems")
    visitor.troubles.clear()  # a 401 is an error to the console


def test_a_conflict_is_tried_and_then_decided(visitor: Visitor) -> None:
    page = visitor.sign_in()
    page.get_by_role("link", name="Conflicts").first.click()
    page.locator(".troubles a").first.click()
    page.get_by_role("radio", name="nas ").first.check()
    page.get_by_role("button", name="Show what would happen").click()
    assert "Nothing is decided yet" in page.locator("section[role=status]").inner_text()
    assert "zfs rename vault/nas/documents" in page.locator("section[role=status]").inner_text()
    assert not [event for event in visitor.witness.store.events() if event.what == "conflict.resolved"]
    page.get_by_role("button", name="Decide").click()
    assert "Decided." in page.locator("section[role=status]").inner_text()
    (event,) = [event for event in visitor.witness.store.events() if event.what == "conflict.resolved"]
    assert (event.who, event.detail["discard"]) == ("admin", False)


def no_holds(witness: Witness, dataset: str) -> None:
    """Let the report have said that no snapshot of a dataset is held."""
    for system in witness.store.read(REGISTRY).systems.find(hostname="backup"):
        shard = inventory_of(system.id)
        with witness.store.transaction(shard) as tx:
            document = tx[shard].datasets.get(dataset)
            rows = [msgspec.structs.replace(row, userrefs=0) for row in document.snapshots]
            tx[shard].datasets.put(msgspec.structs.replace(document, snapshots=rows))


def test_destroying_is_listed_before_it_is_decided(visitor: Visitor) -> None:
    page = visitor.sign_in()
    page.goto(f"{visitor.address}/dashboard/conflicts")
    page.locator(".troubles a").first.click()
    page.get_by_role("radio", name="nas ").first.check()
    page.get_by_label("Destroy what the others have").check()
    page.get_by_role("button", name="Show what would happen").click()
    assert "edited-here has holds is not known" in page.get_by_role("alert").inner_text()
    visitor.troubles.clear()  # a 409 is an error to the console
    no_holds(visitor.witness, "vault/nas/documents")
    page.get_by_role("link", name="Conflicts").first.click()
    page.locator(".troubles a").first.click()
    page.get_by_role("radio", name="nas ").first.check()
    page.get_by_label("Destroy what the others have").check()
    page.get_by_role("button", name="Show what would happen").click()
    assert "Lost for good: edited-here" in page.locator("section[role=status]").inner_text()


def test_a_transfer_advances_and_a_refresh_costs_a_304_until_then(visitor: Visitor) -> None:
    page = visitor.sign_in()
    page.goto(f"{visitor.address}/dashboard/transfers")
    statuses: list[int] = []
    page.on("response", lambda response: statuses.append(response.status) if response.url == page.url else None)
    assert page.locator("b", has_text="40 %").is_visible()
    page.evaluate("refresh()")
    assert statuses == [304]
    with visitor.witness.store.transaction(LEASES) as tx:
        (lease,) = tx[LEASES].leases.all()
        tx[LEASES].leases.put(msgspec.structs.replace(lease, bytes_done=lease.bytes_total * 4 // 5))
    page.evaluate("refresh()")
    assert page.locator("b", has_text="80 %").is_visible()
    assert statuses == [304, 200]
    assert page.evaluate("document.querySelector('progress').position") == pytest.approx(0.8)


def test_a_witness_that_does_not_answer_is_said(visitor: Visitor) -> None:
    page = visitor.sign_in()
    page.context.set_offline(True)
    page.evaluate("refresh()")
    assert "may be out of date" in page.locator("#stale").inner_text()
    page.context.set_offline(False)
    page.evaluate("refresh()")
    assert page.locator("#stale").is_hidden()
    visitor.troubles.clear()  # the failed request is an error to the console


def test_everything_works_without_javascript(visitor: Visitor) -> None:
    page = visitor.sign_in(java_script_enabled=False)
    page.locator(".group a", has_text="backup").click()
    page.get_by_label("Find").fill("homeassistant")
    page.get_by_role("button", name="Show").click()
    assert page.locator("tbody tr").count() == 1
    page.goto(f"{visitor.address}/dashboard/conflicts")
    page.locator(".troubles a").first.click()
    page.get_by_role("radio", name="nas ").first.check()
    page.get_by_role("button", name="Show what would happen").click()
    assert "Nothing is decided yet" in page.locator("section[role=status]").inner_text()


def test_tables_sort_and_filter_by_keyboard(visitor: Visitor) -> None:
    page = visitor.sign_in()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.locator(".group a", has_text="backup").focus()
    page.keyboard.press("Enter")
    names = page.locator("tbody th > a")
    assert names.first.inner_text() == "documents"
    page.get_by_role("button", name="Dataset").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    assert names.first.inner_text() == "vm/homeassistant"
    assert page.locator("th[aria-sort=descending]").count() == 1
    page.get_by_label("Find").fill("films")
    assert page.locator("tbody tr:visible").count() == 1


@pytest.mark.parametrize(("viewport", "scheme"), [(WIDE, "light"), (NARROW, "dark")], ids=["wide", "narrow"])
def test_every_page_is_for_everybody_and_fits(visitor: Visitor, viewport: dict[str, int], scheme: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    axe = Axe()
    visitor.open(viewport, scheme).goto(f"{visitor.address}/dashboard/sign-in")
    found = [("sign-in", each["id"]) for each in axe.run(visitor.page).response["violations"]]
    assert tick(visitor.witness)  # so that alerts are on the overview
    page = visitor.sign_in(viewport=viewport, scheme=scheme)
    assert page.locator("section", has=page.get_by_role("heading", name="Alerts in force")).locator("li").count() == 3
    for path in visitor.paths():
        page.goto(f"{visitor.address}{path}")
        page.evaluate("document.querySelectorAll('details').forEach((each) => each.open = true)")
        found += [(path, each["id"]) for each in axe.run(page).response["violations"]]
        if page.evaluate("document.documentElement.scrollWidth") > viewport["width"]:
            found.append((path, "is wider than the screen"))
    assert found == []


def test_no_entry_of_the_menu_stands_alone(visitor: Visitor) -> None:
    page = visitor.sign_in()
    for width, rows in ((320, [3, 3]), (390, [6]), (740, [6]), (900, [6])):
        page.set_viewport_size({"width": width, "height": 700})
        tops = page.evaluate("[...document.querySelectorAll('.top nav a')].map((each) => each.offsetTop)")
        assert [tops.count(top) for top in sorted(set(tops))] == rows
        assert page.evaluate("document.documentElement.scrollWidth") == width


def test_hostile_names_stay_text(visitor: Visitor) -> None:
    witness = visitor.witness
    with witness.store.transaction(REGISTRY) as tx:
        for system in tx[REGISTRY].systems.all():
            named = msgspec.structs.replace(system, ssh_user=HOSTILE, platform=HOSTILE)
            tx[REGISTRY].systems.put(named)
        for key in tx[REGISTRY].keys.all():
            if key.label == "":
                tx[REGISTRY].keys.put(msgspec.structs.replace(key, label=HOSTILE))
        (nas,) = tx[REGISTRY].systems.find(hostname="nas")
    with witness.store.transaction(inventory_of(nas.id)) as tx:
        datasets = tx[inventory_of(nas.id)].datasets
        photos = datasets.get("tank/photos")
        rows = [msgspec.structs.replace(row, name=f"{HOSTILE}{row.name}") for row in photos.snapshots]
        datasets.put(msgspec.structs.replace(photos, id=f"tank/{HOSTILE}", snapshots=rows))
        datasets.put(msgspec.structs.replace(photos, id=f"stray/{HOSTILE}", snapshots=rows))
    page = visitor.sign_in()
    paths = visitor.paths()
    group = next(path for path in paths if path.startswith("/dashboard/groups/"))
    page.goto(visitor.address + group)
    page.locator("tbody th > a", has_text="onerror").click()
    assert page.locator("h1").inner_text() == HOSTILE
    for path in [urlsplit(page.url).path + "?" + urlsplit(page.url).query, *paths]:
        page.goto(f"{visitor.address}{path}")
        assert page.evaluate("window.hacked") is None
        assert page.locator("img").count() == 0
    page.goto(f"{visitor.address}/dashboard/uncovered")
    assert HOSTILE in page.locator("tbody").inner_text()


def test_the_apis_page_tries_a_call_with_a_key(visitor: Visitor) -> None:
    page = visitor.open(viewport=NARROW)
    page.goto(f"{visitor.address}/docs")
    page.locator("#key").fill(ADMIN)
    page.locator("#list_systems > summary").click()
    page.locator("#list_systems input[name=limit]").fill("1")
    page.locator("#list_systems").get_by_role("button", name="Try it").click()
    answer = page.locator("#list_systems .answer", has_text="200")
    answer.wait_for()
    assert "x-total-count: 3" in answer.inner_text()
    assert '"hostname":"backup"' in answer.inner_text()
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]
