"""What the pages in deploy/ say: links lead somewhere, commands of ours exist, settings are accepted by name."""

import re
import shlex
import tomllib
from pathlib import Path

import pytest
from triode_broker.cli.arguments import make_parser
from triode_broker.cli.known_settings import single_settings

from tests.deploy.three_nodes import DEPLOY

PAGES = sorted(DEPLOY.rglob("README.md"))
#: Commands of ours; the name stands for other things too (a namespace, a folder).
WORDS = ("token", "serve", "sub", "cluster", "drain", "reload")
FOLDERS = sorted(path for path in DEPLOY.iterdir() if path.is_dir())


def of_folder(path: Path) -> str:
    """For the names of tests."""
    return path.parent.name


def blocks(page: Path, language: str) -> list[str]:
    """The page's code of that kind."""
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=of_folder)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", page.read_text()):
        file, _, anchor = target.partition("#")
        found = (page.parent / file) if file else page
        assert found.exists(), target
        if anchor and found.suffix == ".md":
            titles = re.findall(r"^#+ (.*)$", found.read_text(), re.MULTILINE)
            anchors = {re.sub(r"[^a-z0-9 _-]", "", title.lower()).replace(" ", "-") for title in titles}
            assert anchor in anchors, target


def commands(block: str) -> list[list[str]]:
    """What follows on each `triode`, up to the end of that command."""
    found: list[list[str]] = []
    for line in block.replace("\\\n", " ").splitlines():
        words = shlex.shlex(line, posix=True, punctuation_chars=True)
        words.whitespace_split = True
        command: list[str] | None = None
        for word in words:
            if set(word) <= set("();<>|&"):
                command = None
            elif word == "triode" or word.endswith("bin/triode"):
                command = []
                found.append(command)
            elif command is not None:
                command.append(word.removesuffix(";"))
    return [command for command in found if command and command[0].isalpha()]


@pytest.mark.parametrize("page", PAGES, ids=of_folder)
def test_commands_of_ours_are_commands(page: Path) -> None:
    parser = make_parser()
    for block in blocks(page, "sh"):
        for command in commands(block):
            if command[0] in WORDS:
                parser.parse_args(command)


@pytest.mark.parametrize("page", PAGES, ids=of_folder)
def test_settings_that_are_shown_are_settings(page: Path) -> None:
    known = single_settings()
    for block in blocks(page, "toml"):
        for name, value in tomllib.loads(block).items():
            names = [f"{name}.{inner}" for inner in value] if isinstance(value, dict) else [name]
            assert set(names) <= set(known), names
    for variable in re.findall(r"TRIODE_LIMITS_\w+", page.read_text()):
        assert variable.removeprefix("TRIODE_LIMITS_").lower() in {name.removeprefix("limits.") for name in known}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_every_folder_is_in_the_index(folder: Path) -> None:
    assert f"]({folder.name}/" in (DEPLOY / "README.md").read_text()
