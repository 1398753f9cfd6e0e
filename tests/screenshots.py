"""Make the pictures of README from the example: python -m tests.screenshots"""

import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from handlers.auth import ensure_first_keys
from tests.browser import chromium, example, served
from tests.witness import ADMIN

FOLDER = Path(__file__).parent.parent / "docs"


def main() -> None:
    """Write each picture anew."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        witness = example(Path(folder))
        ensure_first_keys(witness.store, witness.config, datetime.now(UTC))
        with served(witness) as address:
            page = _signed_in(browser, address, "light", 1200, 860)
            page.screenshot(path=FOLDER / "overview.png")
            page.locator(".group a", has_text="backup").click()
            page.screenshot(path=FOLDER / "group.png")
            page = _signed_in(browser, address, "dark", 1200, 760)
            page.locator(".troubles a", has_text="documents").click()
            page.screenshot(path=FOLDER / "dataset.png")
            page = _signed_in(browser, address, "light", 390, 844)
            page.screenshot(path=FOLDER / "phone.png")


def _signed_in(browser: Any, address: str, scheme: str, width: int, height: int) -> Any:
    page = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme).new_page()
    page.goto(address)
    page.get_by_label("API key").fill(ADMIN)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/dashboard")
    return page


if __name__ == "__main__":
    main()
