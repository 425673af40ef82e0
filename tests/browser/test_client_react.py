"""The React hooks in a real React: what pages/react_cases.tsx says, case by case."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from playwright.sync_api import Browser, Page

from tests.browser.built import CLIENT, built_client
from tests.browser.site import PAGES, bundle, serve_site

pytestmark = pytest.mark.browser

ENTRY: Final = PAGES / "react_cases.tsx"
CASES: Final = re.findall(r"^  async (\w+)\(client\)", ENTRY.read_text(), re.MULTILINE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the built client is."""
    folder = tmp_path_factory.mktemp("react")
    built_client(folder)
    return folder


@pytest.fixture(scope="module")
def cases(browser: Browser, folder: Path) -> Iterator[Page]:
    """One page for all of them: each mounts and unmounts its own."""
    bundle(ENTRY, folder, development=True)
    with serve_site(folder) as url:
        context = browser.new_context()
        page = context.new_page()
        page.goto(f"{url}/{ENTRY.stem}.html")
        yield page
        context.close()


def test_cases_and_example_are_typed(folder: Path) -> None:
    """As a program sees the built types: what a hook returns follows from what it is given."""
    packages = CLIENT / "node_modules"
    paths = {
        "triode": folder / "dist" / "types" / "index.d.ts",
        "triode/react": folder / "dist" / "types" / "react.d.ts",
        "react": packages / "@types" / "react",
        "react/*": packages / "@types" / "react" / "*",
        "react-dom/*": packages / "@types" / "react-dom" / "*",
    }
    example = CLIENT / "examples" / "react"
    config = {
        "extends": str(example / "tsconfig.json"),
        "compilerOptions": {"paths": {name: [str(path)] for name, path in paths.items()}},
        "include": [str(example / "src"), str(ENTRY)],
    }
    (folder / "tsconfig.json").write_text(json.dumps(config))
    checked = subprocess.run(
        ["node", packages / "typescript" / "bin" / "tsc", "-p", folder], stdout=subprocess.PIPE, text=True
    )
    assert checked.stdout == ""


def test_every_case_is_run(cases: Page) -> None:
    assert cases.evaluate("cases") == CASES


@pytest.mark.parametrize("name", CASES)
def test_hooks(cases: Page, name: str) -> None:
    assert cases.evaluate("name => run(name)", name) == ""
