"""/docs: the API as a page, from this machine alone."""

import re

from handlers.routes import ENDPOINTS
from tests.witness import Client


def test_every_endpoint_is_there_and_can_be_tried_without_a_key_to_read(client: Client) -> None:
    page = client.app.get("/docs")
    tried = re.findall(r'data-method="(\w+)" data-path="/api/v1([^"]+)"', page.text)
    assert set(tried) == {(row.method, re.sub(r"<(\w+)>", r"{\1}", row.path)) for row in ENDPOINTS}
    assert all(f'id="{row.name}"' in page.text for row in ENDPOINTS)


def test_nothing_on_it_comes_from_another_host_or_stands_inline(client: Client) -> None:
    page = client.app.get("/docs")
    for address in re.findall(r'(?:src|href|action)="([^"]*)"', page.text):
        assert address.startswith(("/", "#")), address
        assert not address.startswith("//")
        if address.startswith("/dashboard/static/"):
            assert client.app.get(address).status_code == 200
    assert not re.search(r"<script(?! src)|<style|\sstyle=|\son\w+=", page.text)
    policy = page.headers["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    script = client.app.get("/dashboard/static/docs.js").text
    assert "http:" not in script
    assert "https:" not in script
