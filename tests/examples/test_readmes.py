"""The READMEs of docs/examples are true: their commands are commands, their files and links are there."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
from triode_broker.cli.arguments import make_parser

from tests.browser.processes import TRIODE
from tests.examples.programs import EXAMPLES
from tests.house.tree import ROOT

READMES = sorted(EXAMPLES.rglob("README.md"))
by_readme = pytest.mark.parametrize("readme", READMES, ids=lambda path: str(path.relative_to(EXAMPLES)))


def commands(readme: Path) -> list[list[str]]:
    """The words of each line of its shell blocks."""
    text = readme.read_text(encoding="utf-8")
    shell = re.findall(r"^```sh\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    lines = [line for block in shell for line in block.splitlines()]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def test_every_folder_has_a_readme_and_is_in_the_index() -> None:
    folders = {path.parent for path in EXAMPLES.rglob("*") if path.suffix == ".py"}
    tops = {EXAMPLES / folder.relative_to(EXAMPLES).parts[0] for folder in folders - {EXAMPLES}}
    assert {folder for folder in tops if not (folder / "README.md").exists()} == set()
    index = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert [folder.name for folder in tops if f"]({folder.name})" not in index] == []


@by_readme
def test_commands_of_the_readme_are_commands(readme: Path) -> None:
    parser = make_parser()
    for words in commands(readme):
        if words[0].endswith("triode"):
            parser.parse_args(words[1:])
        if words[0].endswith("python") and words[1] != "-m":
            assert (ROOT / words[1]).is_file(), words
    assert commands(readme)


@by_readme
def test_links_of_the_readme_lead_somewhere(readme: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", readme.read_text(encoding="utf-8"))
    assert [link for link in links if not (readme.parent / link).exists()] == []


@pytest.mark.parametrize(
    "program", sorted(EXAMPLES.glob("*/*.py")), ids=lambda path: str(path.relative_to(EXAMPLES))
)
def test_example_is_named_by_its_readme(program: Path) -> None:
    assert program.name in (program.parent / "README.md").read_text(encoding="utf-8")


def test_configuration_of_the_examples_is_accepted(tmp_path: Path) -> None:
    check = [TRIODE, "serve", "--config", str(EXAMPLES / "triode.toml"), "--check"]
    said = subprocess.run(check, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    for filter in re.findall(r'^filter = "(.*?)"', (EXAMPLES / "triode.toml").read_text(), re.MULTILINE):
        assert filter in said
