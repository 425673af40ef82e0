"""docs/running-a-cluster.md, as far as reading can tell: its commands are commands, its links lead somewhere."""

import re
import shlex

from triode_broker.cli.arguments import make_parser

from tests.house.tree import ROOT

PAGE = ROOT / "docs" / "running-a-cluster.md"


def commands() -> list[list[str]]:
    """Every `triode …` in a block of shell commands, without what the shell would fill in."""
    text = "".join(re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE))
    text = text.replace("\\\n", " ").replace("$1", "1").replace("$i", "1").replace('"${@:2}"', "")
    return [shlex.split(words, comments=True) for words in re.findall(r"\btriode ([^;|>&\n]+)", text)]


def test_commands_of_the_page_are_commands() -> None:
    parser = make_parser()
    assert {parser.parse_args(command).command for command in commands()} == {
        "serve",
        "cluster",
        "pub",
        "sub",
        "drain",
    }


def test_links_of_the_page_lead_somewhere() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", PAGE.read_text())
    assert links
    assert not [link for link in links if not (PAGE.parent / link).exists()]
