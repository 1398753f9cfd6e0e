"""The witness at https://host/zfs/: what leads back to it begins with /zfs, for callers, browsers and agents."""

import re
import ssl
import urllib.request
from collections.abc import Iterator
from http.cookiejar import CookieJar
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

import pytest

from tests.lab import Host
from tests.test_proxy import Behind
from tests.test_topologies import HUB, fill
from tests.witness import ADMIN, Client, client_of


@pytest.fixture(scope="module")
def below(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Behind]:
    """A witness below /zfs/ of a real nginx, and two hosts whose agents know it there."""
    found = Behind(tmp_path_factory.mktemp("below"), HUB, below=True)
    found.lab.address = f"https://127.0.0.1:{found.nginx.port}/zfs"
    found.lab.ca_file = str(found.nginx.certificate)
    nas, backup = found.lab.host("nas", "tank"), found.lab.host("backup", "vault")
    fill(nas, "tank/media", snapshots=2)
    for host in (backup, nas):
        host.agent("report")
    yield found
    found.nginx.stop()
    found.lab.stop()


def test_agents_replicate(below: Behind) -> None:
    nas: Host = below.lab.hosts["nas"]
    nas.agent("run")
    assert "vault/nas/media" in {each.name for each in below.lab.hosts["backup"].look().datasets.values()}


class Browser:
    """What a browser does without its screen: cookies, redirects, and every link of a page."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.cookies = CookieJar()
        self.opener = urllib.request.build_opener(
            urllib.request.HTTPSHandler(context=context), urllib.request.HTTPCookieProcessor(self.cookies)
        )

    def open(self, url: str, **form: str) -> tuple[str, str]:
        """Where one is in the end, and what is there. Raises HTTPError for what is not."""
        with self.opener.open(url, urlencode(form).encode() if form else None, timeout=60) as answer:
            return answer.url, answer.read().decode()


def test_every_link_of_every_page_stays_below(below: Behind) -> None:
    browser = Browser(below.nginx.context())
    url, page = browser.open(f"{below.lab.address}/")
    (token,) = re.findall(r'name="form_token" value="([^"]+)"', page)
    (action,) = re.findall(r'action="([^"]+)"', page)
    url, page = browser.open(urljoin(url, action), key=ADMIN, form_token=token, next="/dashboard/systems")
    assert urlsplit(url).path == "/zfs/dashboard/systems"
    assert {cookie.path for cookie in browser.cookies} == {"/zfs/dashboard"}
    seen: dict[str, str] = {url: page}
    waiting = [url]
    while waiting:
        at = waiting.pop()
        for found in re.findall(r'(?:href|src|action|data-path)="([^"#{]+)[^"]*"', seen[at]):
            assert found.startswith("/zfs/"), f"{found} on {at}"
            there = urljoin(at, found.replace("&amp;", "&"))
            if there not in seen and not re.search(r"/sign-out|/keys/|/api/v1", there):
                seen[there] = browser.open(there)[1]
                waiting.append(there)
    paths = {urlsplit(each).path for each in seen}
    static = {"/zfs/dashboard/static/dashboard.css", "/zfs/docs", "/zfs/openapi.json"}
    assert paths >= {"/zfs/dashboard", "/zfs/dashboard/events", *static}
    assert len(paths) > 12


def test_what_a_new_system_is_told_leads_below(below: Behind) -> None:
    url, page = Browser(below.nginx.context()).open(f"{below.lab.address}/docs")
    assert url.endswith("/zfs/docs")
    assert 'data-path="/zfs/api/v1/systems/register"' in page
    headers = {"Content-Type": "application/json"}
    status, answered, made = below.call("POST", "/zfs/api/v1/systems/register", b'{"hostname": "new"}', **headers)
    assert (status, answered["Location"]) == (201, f"/zfs/api/v1/systems/{made['id']}")
    assert below.call("GET", answered["Location"])[2]["hostname"] == "new"
    _, answered, _ = below.call("GET", "/zfs/api/v1/systems?limit=1&offset=1")
    assert re.findall(r"<(.*?)[?]", answered["Link"]) == ["/zfs/api/v1/systems"] * 2
    assert below.call("GET", "/zfs/openapi.json")[2]["servers"] == [{"url": "/zfs/api/v1"}]


# --- whose word counts ---------------------------------------------------------------------------


@pytest.fixture
def behind_proxy(make_witness: Any) -> Client:
    return client_of(make_witness(trusted_proxies="[10.0.0.0/8]"))


@pytest.mark.parametrize(
    ("address", "said", "mounted", "leads_to"),
    [
        ("10.0.0.1", "/zfs", "", "/zfs"),
        ("10.0.0.1", "/a/zfs/", "", "/a/zfs"),
        ("10.0.0.1", "", "/mounted", "/mounted"),
        ("10.0.0.1", "/zfs", "/mounted", "/zfs/mounted"),
        ("10.0.0.1", "//elsewhere.example", "", ""),
        ("10.0.0.1", "https://elsewhere.example", "", ""),
        ("10.0.0.1", '/"><script>', "", ""),
        ("192.0.2.1", "/zfs", "", ""),
    ],
)
def test_a_prefix_is_a_trusted_proxys_or_the_servers_to_say(
    behind_proxy: Client, address: str, said: str, mounted: str, leads_to: str
) -> None:
    environ = {"REMOTE_ADDR": address, "HTTP_X_FORWARDED_PREFIX": said, "SCRIPT_NAME": mounted}
    answer = behind_proxy.app.get("/dashboard", extra_environ=environ)
    assert answer.headers["Location"].partition("?")[0] == f"{leads_to}/dashboard/sign-in"
    assert f"; Path={leads_to}/dashboard;" in answer.headers["Set-Cookie"]
    page = behind_proxy.app.get("/dashboard/sign-in", extra_environ=environ).text
    assert f'href="{leads_to}/dashboard/static/dashboard.css"' in page


def test_what_a_caller_says_in_the_servers_name_counts_for_nothing(below: Behind) -> None:
    """gunicorn would take both from this machine."""
    request = urllib.request.Request(f"http://127.0.0.1:{below.lab.port}/dashboard/sign-in")
    request.add_header("SCRIPT_NAME", "/dashboard")
    request.add_header("X-Forwarded-Proto", "ftp")
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert 'href="/dashboard/static/dashboard.css"' in answer.read().decode()
