"""docs/operating.md: every command of it is one, and those that end by themselves are run."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import triode
from triode_broker.cli.arguments import make_parser
from triode_broker.cli.exit_codes import ExitCode

from tests.admin.running import running
from tests.cli.programs import run
from tests.house.tree import ROOT

TEXT = (ROOT / "docs" / "operating.md").read_text()
SECRET = "0123456789abcdef0123456789abcdef"


def commands(language: str) -> Iterator[str]:
    """Lines of all blocks of a language."""
    for block in re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL):
        yield from block.splitlines()


@pytest.mark.parametrize("line", [*commands("sh"), *commands("console")])
def test_each_command_is_one(line: str) -> None:
    program, *words = shlex.split(line)
    assert program == "triode"
    make_parser().parse_args(words)


async def test_commands_of_the_page_do_what_it_says(tmp_path: Path) -> None:
    secret, data = tmp_path / "operators.secret", tmp_path / "data"
    secret.touch(0o600)
    secret.write_text(SECRET)
    admin = {"listen": "127.0.0.1:0", "token_file": str(secret)}
    async with (
        running(data, admin=admin, cluster_listen="127.0.0.1:0", durable=["n1"]) as node,
        triode.connect(node.url) as client,
    ):
        assert node.broker.operating is not None
        (operators,) = node.broker.operating.urls
        places = {
            "/var/lib/triode": str(data),
            "http://127.0.0.1:7402": operators,
            "operators.secret": str(secret),
            "ws://127.0.0.1:7400/ws": node.url.replace("http", "ws", 1) + "/ws",
            "run.json": str(tmp_path / "run.json"),
        }
        for line in commands("sh"):
            words = [places.get(word, word) for word in shlex.split(line)[1:]]
            async with trio.open_nursery() as nursery:
                if words[0] == "tail":
                    nursery.start_soon(talk, client)
                ended = await run(*words)
                nursery.cancel_scope.cancel()
            assert ended.code == ExitCode.OK, (line, ended)
            assert ended.output, line


async def talk(client: triode.Client) -> None:
    """For those who follow."""
    while True:
        await client.publish("rooms/1", "hello")
        await trio.lowlevel.checkpoint()
