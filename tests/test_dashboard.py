"""The dashboard over WebTest: signing in, who sees what, forms, and what every page carries."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from webtest import TestApp

from handlers import planning
from handlers.dashboard.routes import PAGES, STATIC
from handlers.dashboard.sessions import SESSION
from handlers.keys import create_key, revoke_key
from handlers.local import request_here
from handlers.request import ANYONE, Witness
from handlers.routes import make_app
from planner import plan_group
from store import ALERTS
from store.documents import Alert
from tests.witness import ADMIN, ENROLL, Client, client_of

TWO = """
  - name: pair
    hub: nas
    systems: {nas: {root: tank}, backup: {root: vault/nas}}
"""
HOSTILE = "<script>alert(1)</script>"


class Browser:
    """A browser that keeps cookies and follows nothing by itself."""

    def __init__(self, witness: Witness, key: str | None = ADMIN) -> None:
        self.app = TestApp(make_app(witness))
        if key:
            self.sign_in(key)

    def get(self, path: str, **options: Any) -> Any:
        return self.app.get(path, **options)

    def sign_in(self, key: str, **options: Any) -> Any:
        """Send the form with a key."""
        form = self.get("/dashboard/sign-in").form
        form["key"] = key
        return form.submit(**options)


def line(name: str, kind: str = "filesystem", guid: int = 1, txg: int = 1, written: int = 0) -> str:
    return f"{name}\t{kind}\t{guid}\t{txg}\t{1700000000 + txg}\t0\t1000\t{written}\toff\t-\t-\n"


@pytest.fixture
def pair(make_witness: Any) -> Client:
    """Two systems; `photos` is in sync, `documents` was written to on the backup box."""
    client = client_of(make_witness(TWO))
    nas, backup = client.register("nas"), client.register("backup")
    nas.report(
        line("tank", guid=10)
        + line("tank/photos", guid=11)
        + line("tank/photos@a", "snapshot", 1)
        + line("tank/documents", guid=12)
        + line("tank/documents@a", "snapshot", 3)
        + line("tank/documents@b", "snapshot", 4, 2, 500)
        + line("tank/new", guid=13)
    )
    backup.report(
        line("vault", guid=20)
        + line("vault/nas", guid=21)
        + line("vault/nas/photos", guid=22)
        + line("vault/nas/photos@a", "snapshot", 1)
        + line("vault/nas/documents", guid=23)
        + line("vault/nas/documents@a", "snapshot", 3)
        + line("vault/nas/documents@mine", "snapshot", 99, 2, 700)
        + line("vault/spare", guid=24)
    )
    return client


@pytest.fixture
def browser(pair: Client) -> Browser:
    """Signed in as the admin."""
    return Browser(pair.witness)


def last_form(page: Any) -> Any:
    """The form at the end of a page; signing out is the first."""
    return page.forms[max(number for number in page.forms if isinstance(number, int))]


def group_page(browser: Browser) -> str:
    return str(browser.get("/dashboard").html.select_one(".group a")["href"])


# --- signing in ----------------------------------------------------------------------------------


def test_the_root_leads_to_the_dashboard(pair: Client) -> None:
    answer = pair.app.get("/")
    assert (answer.status_int, answer.headers["Location"]) == (303, "/dashboard")


def test_nobody_sees_a_page_without_signing_in(pair: Client) -> None:
    for page in PAGES:
        if page.method == "GET" and page.callers is not ANYONE:
            answer = pair.app.get(page.path.replace("<", "").replace(">", ""))
            assert answer.status_int == 303
            assert "/dashboard/sign-in?next=%2Fdashboard" in answer.headers["Location"]


def test_a_key_signs_in_and_out(browser: Browser) -> None:
    cookie = browser.app.cookies[SESSION]
    assert ADMIN.partition(".")[2] not in cookie
    assert browser.get("/dashboard").status_int == 200
    out = browser.get("/dashboard").forms[0].submit()
    assert "Max-Age=0" in out.headers["Set-Cookie"]
    assert browser.get("/dashboard").status_int == 303


def test_the_session_cookie_stays_with_the_pages(pair: Client) -> None:
    answer = Browser(pair.witness, None).sign_in(ADMIN)
    cookie = answer.headers["Set-Cookie"]
    assert {"HttpOnly", "SameSite=Lax", "Path=/dashboard"} <= set(cookie.split("; "))
    assert "Secure" not in cookie
    secure = Browser(pair.witness, None)
    secure.app.extra_environ["wsgi.url_scheme"] = "https"
    assert "Secure" in secure.sign_in(ADMIN).headers["Set-Cookie"]


@pytest.mark.parametrize("key", ["admin.wrong", "", "nonsense", HOSTILE])
def test_a_wrong_key_is_asked_for_again(pair: Client, key: str) -> None:
    answer = Browser(pair.witness, None).sign_in(key, status=401)
    assert "not known here" in answer.text
    assert HOSTILE not in answer.text
    assert pair.get("/events?what=auth.refused")


def test_an_enroll_key_does_not_sign_in(pair: Client) -> None:
    assert "only register" in Browser(pair.witness, None).sign_in(ENROLL, status=403).text


def test_too_many_wrong_keys_are_told_to_wait_and_a_right_one_is_not(pair: Client) -> None:
    browser = Browser(pair.witness, None)
    for _ in range(10):
        browser.sign_in("admin.wrong", status=401)
    assert "Retry-After" in browser.sign_in("admin.wrong", status=429).headers
    assert browser.sign_in(ADMIN).status_int == 303


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda value: value[:-1] + ("0" if value[-1] != "0" else "1"), "signature"),
        (lambda value: value.replace("admin.", "enroll.", 1), "another key"),
        (lambda value: ".".join([*value.split(".")[:1], "1", *value.split(".")[2:]]), "another time"),
        (lambda value: "", "nothing"),
        (lambda value: "a.b.c.d", "nonsense"),
    ],
)
def test_a_changed_cookie_is_worth_nothing(browser: Browser, change: Any, why: str) -> None:
    changed = change(browser.app.cookies[SESSION])
    fresh = TestApp(browser.app.app)
    answer = fresh.get("/dashboard", headers={"Cookie": f"{SESSION}={changed}"})
    assert answer.status_int == 303, why


def test_a_session_ends_with_its_key(pair: Client) -> None:
    request = request_here(pair.witness)
    key = create_key(request, "viewer")
    browser = Browser(pair.witness, key)
    assert browser.get("/dashboard").status_int == 200
    revoke_key(request, key.partition(".")[0])
    assert browser.get("/dashboard").status_int == 303


def test_the_api_takes_no_cookie(browser: Browser) -> None:
    browser.get("/api/v1/systems", headers={"Cookie": f"{SESSION}={browser.app.cookies[SESSION]}"}, status=401)


@pytest.mark.parametrize(
    ("asked", "leads"),
    [
        ("/dashboard/systems", "/dashboard/systems"),
        ("/dashboard?x=1", "/dashboard?x=1"),
        ("https://evil.example/", "/dashboard"),
        ("//evil.example", "/dashboard"),
        ("/dashboardevil", "/dashboard"),
        ("/dashboard/\\evil", "/dashboard"),
        ("/dashboard/\r\nSet-Cookie: x=y", "/dashboard"),
    ],
)
def test_signing_in_leads_on_to_a_page_of_ours_only(pair: Client, asked: str, leads: str) -> None:
    form = TestApp(pair.app.app).get("/dashboard/sign-in", {"next": asked}).form
    form["key"] = ADMIN
    assert form.submit().headers["Location"] == leads


# --- forms ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", [page for page in PAGES if page.method == "POST"], ids=lambda page: page.name)
def test_a_form_from_elsewhere_is_refused(browser: Browser, page: Any) -> None:
    path = page.path.replace("<conflict_id>", "0b5c8f0e-0000-4000-8000-000000000000")
    for form in ({}, {"form_token": "0" * 64}, {"form_token": ""}):
        assert "not from a page of yours" in browser.app.post(path, form, status=403).text


def test_a_token_without_its_cookie_is_refused(pair: Client) -> None:
    form = TestApp(pair.app.app).get("/dashboard/sign-in").form
    token = form["form_token"].value
    TestApp(pair.app.app).post("/dashboard/sign-in", {"form_token": token, "key": ADMIN}, status=403)


def test_a_token_of_another_session_is_refused(pair: Client, browser: Browser) -> None:
    other = Browser(pair.witness)
    token = other.get("/dashboard").forms[0]["form_token"].value
    browser.app.post("/dashboard/keys", {"form_token": token, "role": "viewer"}, status=403)


# --- every page ----------------------------------------------------------------------------------


def pages_of(browser: Browser) -> list[str]:
    """The path of every page that can be looked at, with ids that exist."""
    group = group_page(browser)
    conflict = browser.get("/dashboard/conflicts").html.select_one(".troubles a")["href"]
    system = browser.get("/dashboard/systems").html.select_one("tbody th a")["href"]
    fixed = [page.path for page in PAGES if page.method == "GET" and "<" not in page.path]
    fixed = [path for path in fixed if path.startswith("/dashboard")]
    return [*fixed, group, f"{group}/dataset?path=photos", f"{group}/dataset?path=documents&days=7", conflict, system]


def test_every_page_keeps_out_what_is_not_ours(browser: Browser) -> None:
    for path in pages_of(browser):
        answer = browser.get(path)
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        if answer.content_type == "text/html" and answer.status_int == 200:
            assert answer.headers["Cache-Control"] == "no-store"
            assert not answer.html.select("[style], style, [onclick], script:not([src])"), path
            assert "\\\\" not in answer.text, path


def test_a_page_that_did_not_change_is_a_304(browser: Browser) -> None:
    for path in pages_of(browser):
        answer = browser.get(path)
        if answer.content_type == "text/html" and answer.status_int == 200:
            tag = answer.html.select_one("meta[name=version]")["content"]
            assert tag == answer.headers["ETag"]
            assert browser.get(path, headers={"If-None-Match": tag}).status_int == 304, path


def test_a_page_that_changed_is_not_a_304(pair: Client, browser: Browser) -> None:
    tag = browser.get("/dashboard").headers["ETag"]
    pair.register("third")
    assert browser.get("/dashboard", headers={"If-None-Match": tag}).status_int == 200


def test_what_is_not_there_is_said_as_a_page(browser: Browser) -> None:
    nothing = "0b5c8f0e-0000-4000-8000-000000000000"
    for path in ("nowhere", f"groups/{nothing}", "groups/x", f"systems/{nothing}", f"conflicts/{nothing}", "static/x"):
        answer = browser.get(f"/dashboard/{path}", status=404)
        assert answer.content_type == "text/html"
    assert browser.get(f"{group_page(browser)}/dataset?path=none", status=404)
    assert browser.get("/dashboard/events?offset=x", status=422).content_type == "text/html"


def test_static_files_are_those_of_the_folder_and_no_others(browser: Browser) -> None:
    for file in STATIC.iterdir():
        assert browser.get(f"/dashboard/static/{file.name}").body == file.read_bytes()
    browser.get("/dashboard/static/..%2frouting.py", status=404)
    browser.get("/dashboard/static/../routes.py", status=404)


def test_a_broken_edit_of_the_groups_shows(pair: Client, browser: Browser) -> None:
    file = pair.witness.config.file
    assert isinstance(file, Path)
    assert "could not be used" not in browser.get("/dashboard").text
    file.write_text(file.read_text() + "    nonsense: true\n")
    page = browser.get("/dashboard")
    assert "could not be used" in page.text
    assert "nonsense" in page.html.select_one("[role=alert]").text


# --- what pages say ------------------------------------------------------------------------------


def text_of(answer: Any) -> str:
    return " ".join(answer.html.select_one("main").get_text(" ").split())


def test_the_overview_shows_the_alerts_in_force_the_critical_ones_first(browser: Browser, pair: Client) -> None:
    began = datetime.now(UTC) - timedelta(hours=3)
    with pair.witness.store.transaction(ALERTS) as tx:
        for id, severity, raised, over in (
            ("a", "warning", began, None),
            ("b", "critical", began, None),
            ("c", "critical", None, None),
            ("d", "critical", began, began),
        ):
            alert = Alert(
                id=id, kind="late", severity=severity, text=f"<{id}>", since=began, raised_at=raised, recovered_at=over
            )
            tx[ALERTS].alerts.put(alert)
    lines = browser.get("/dashboard").html.find("section", {"aria-labelledby": "alerts"}).find_all("li")
    assert [line.find(class_="what").text for line in lines] == ["<b>", "<a>"]
    assert all("3 h" in line.text for line in lines)


def test_the_pages_about_conflicts_do_not_plan_anew(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    planned = []
    monkeypatch.setattr(planning, "plan_group", lambda *facts: planned.append(facts) or plan_group(*facts))
    browser.get("/dashboard")
    page = browser.get("/dashboard/conflicts")
    assert len(planned) == 1
    found = page.html.find("a", href=re.compile("^/dashboard/conflicts/[0-9a-f]"))
    assert "backup" in browser.get(found["href"]).text
    assert len(planned) == 1


def test_the_overview_says_what_needs_a_look(browser: Browser) -> None:
    page = browser.get("/dashboard")
    assert page.html.h1.get_text() == "1 copy needs you, and 2 are late"
    assert [each.get_text() for each in page.html.select(".troubles strong")] == [
        "documents on backup",
        "documents on nas",
        "photos on nas",
    ]


def test_a_change_shows_at_once(pair: Client, browser: Browser) -> None:
    (backup,) = [each for each in pair.get("/systems") if each["hostname"] == "backup"]
    listing = line("vault", guid=20) + line("vault/nas", guid=21)
    key = pair.call("POST", f"/systems/{backup['id']}/api-key/rotate").json["api_key"]
    headers = {"X-API-Key": key, "Content-Type": "text/tab-separated-values"}
    assert "1 copy needs you" in browser.get("/dashboard").text
    pair.app.put(f"/api/v1/systems/{backup['id']}/inventory", listing, headers=headers)
    assert "1 copy needs you" not in browser.get("/dashboard").text


def test_the_matrix_shows_a_part_and_finds_by_name_and_state(browser: Browser) -> None:
    group = group_page(browser)
    assert [row.a.get_text() for row in browser.get(group).html.select("tbody th")] == ["documents", "photos"]
    assert [row.a.get_text() for row in browser.get(f"{group}?q=phot").html.select("tbody th")] == ["photos"]
    assert [row.a.get_text() for row in browser.get(f"{group}?state=conflict").html.select("tbody th")] == ["documents"]
    assert "No dataset here fits" in browser.get(f"{group}?q=nothing&state=").text
    assert not browser.get(f"{group}?offset=50").html.select("tbody th")


def test_a_dataset_made_by_hand_is_no_disaster(make_witness: Any) -> None:
    client = client_of(make_witness(TWO))
    client.register("nas").report(line("tank", guid=10) + line("tank@a", "snapshot", 1))
    client.register("backup").report(line("vault", guid=20) + line("vault/nas", guid=21))
    browser = Browser(client.witness)
    said = text_of(browser.get(group_page(browser)))
    assert "vault/nas on backup was made by hand, and is still empty. Nothing is lost." in said


def test_data_comes_back_without_writing_over_anything(browser: Browser) -> None:
    page = browser.get(f"{group_page(browser)}/dataset?path=photos")
    commands = [each.get_text() for each in page.html.select("details pre")]
    assert "mount -t zfs -o ro vault/nas/photos@a /mnt/restore" in commands[2]
    assert "tank/photos-restored" in commands[3]
    words = {word.strip("'") for each in commands for word in each.split()}
    assert not words & {"-F", "-f", "destroy", "rollback", "-r"}


def test_datasets_in_no_group_are_named_and_pools_above_a_root_are_not(browser: Browser) -> None:
    rows = browser.get("/dashboard/uncovered").html.select("tbody th")
    assert [row.get_text().strip() for row in rows] == ["vault/spare"]


def test_a_new_key_is_shown_once_and_works(browser: Browser) -> None:
    form = last_form(browser.get("/dashboard/keys"))
    form["role"], form["label"] = "viewer", "kitchen"
    page = form.submit()
    key = page.html.select_one("code.key").get_text()
    assert key not in browser.get("/dashboard/keys").text
    browser.app.reset()
    browser.sign_in(key)
    assert "kitchen" not in browser.get("/dashboard/keys", status=403).text


def test_a_key_is_rotated_and_revoked_and_ones_own_is_not(pair: Client, browser: Browser) -> None:
    key = create_key(request_here(pair.witness), "viewer")
    token = browser.get("/dashboard/keys").forms[0]["form_token"].value
    form = {"form_token": token, "key": key.partition(".")[0]}
    new = browser.app.post("/dashboard/keys/rotate", {**form, "grace_s": "0"}).html.select_one("code.key").get_text()
    pair.with_key(key).call("GET", "/systems", status=401)
    pair.with_key(new).call("GET", "/systems")
    form["key"] = new.partition(".")[0]
    browser.app.post("/dashboard/keys/revoke", form, status=422)
    browser.app.post("/dashboard/keys/revoke", {**form, "sure": "yes"}, status=303)
    pair.with_key(new).call("GET", "/systems", status=401)
    own = {**form, "key": "admin", "sure": "yes"}
    assert "you are signed in with" in browser.app.post("/dashboard/keys/revoke", own, status=409).text


def test_a_new_system_gets_commands_that_fit_it(pair: Client, browser: Browser) -> None:
    form = last_form(browser.get("/dashboard/systems/new"))
    form["hostname"] = "attic"
    page = form.submit()
    steps = [each.get_text() for each in page.html.select("ol.steps pre")]
    config = dict(each.split(" = ") for each in steps[1].splitlines() if " = " in each)
    pair.with_key(config["api_key"]).call("POST", f"/systems/{config['system_id']}/heartbeat", {})
    assert config["witness"] == "http://localhost:80"
    assert browser.get("/dashboard/agent").text.startswith("#!/bin/sh")
    again = last_form(browser.get("/dashboard/systems/new"))
    again["hostname"] = "attic"
    assert "registered already" in again.submit(status=409).text


# --- who sees what -------------------------------------------------------------------------------


def test_a_viewer_sees_and_does_not_decide(pair: Client, browser: Browser) -> None:
    viewer = Browser(pair.witness, create_key(request_here(pair.witness), "viewer"))
    conflict = viewer.get("/dashboard/conflicts").html.select_one(".troubles a")["href"]
    page = viewer.get(conflict)
    assert "An admin decides" in page.text
    token = page.forms[0]["form_token"].value
    viewer.app.post(conflict, {"form_token": token, "way": "ignore", "step": "resolve"}, status=403)
    for path in ("keys", "systems/new"):
        viewer.get(f"/dashboard/{path}", status=403)
    assert pair.get("/events?what=auth.refused")


def test_an_agent_sees_its_own(pair: Client, browser: Browser) -> None:
    other = pair.register("elsewhere")
    agent = Browser(pair.witness, other.key)
    assert "Nothing is watched yet" in agent.get("/dashboard").text
    group, conflict = group_page(browser), browser.get("/dashboard/conflicts").html.select_one(".troubles a")["href"]
    for path in (group, f"{group}/dataset?path=photos", "/dashboard/events", "/dashboard/keys"):
        agent.get(path, status=403)
    agent.get(conflict, status=404)
    for path in ("", "/conflicts", "/transfers", "/systems", "/uncovered"):
        said = text_of(agent.get(f"/dashboard{path}"))
        assert "nas" not in said
        assert "vault" not in said
    systems = {each["hostname"]: each["id"] for each in pair.get("/systems")}
    agent.get(f"/dashboard/systems/{systems['elsewhere']}")
    agent.get(f"/dashboard/systems/{systems['nas']}", status=403)


@pytest.mark.parametrize(
    ("peer", "said", "scheme"),
    [
        ("10.0.0.1", "https", "https"),
        ("10.0.0.1", "http, https", "https"),  # each proxy appends: the last word is the trusted one's
        ("10.0.0.1", "https, http", "http"),
        ("10.0.0.1", "javascript", "http"),
        ("192.0.2.1", "https", "http"),  # anybody can say so
    ],
)
def test_a_trusted_proxy_says_whether_it_is_https(make_witness: Any, peer: str, said: str, scheme: str) -> None:
    client = client_of(make_witness(trusted_proxies="[10.0.0.0/8]"))
    browser = Browser(client.witness, key=None)
    browser.app.extra_environ = {"REMOTE_ADDR": peer, "HTTP_X_FORWARDED_PROTO": said}
    assert ("; Secure" in browser.get("/dashboard/sign-in").headers["Set-Cookie"]) == (scheme == "https")
