"""The React hooks in a real React: what pages/react_cases.tsx says, case by case."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from playwright.sync_api import Browser, Page

from tests.browser.built import built_client
from tests.browser.site import PAGES, bundle, serve_site

pytestmark = pytest.mark.browser

ENTRY: Final = PAGES / "react_cases.tsx"
CASES: Final = re.findall(r"^  async (\w+)\(client\)", ENTRY.read_text(), re.MULTILINE)


@pytest.fixture(scope="module")
def cases(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """One page for all of them: each mounts and unmounts its own."""
    folder = tmp_path_factory.mktemp("react")
    built_client(folder)
    bundle(ENTRY, folder, development=True)
    with serve_site(folder) as url:
        context = browser.new_context()
        page = context.new_page()
        page.goto(f"{url}/{ENTRY.stem}.html")
        yield page
        context.close()


def test_every_case_is_run(cases: Page) -> None:
    assert cases.evaluate("cases") == CASES


@pytest.mark.parametrize("name", CASES)
def test_hooks(cases: Page, name: str) -> None:
    assert cases.evaluate("name => run(name)", name) == ""
