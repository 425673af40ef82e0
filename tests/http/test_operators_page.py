"""docs/http-operators.md: its settings are settings, its commands do what the page says, its links lead on."""

import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import trio
import triode
from triode_broker.cli.settings import load
from triode_broker.http import operators

from tests.house.tree import ROOT
from tests.security.victim import PATIENCE_SECONDS, Victim

PAGE = ROOT / "docs" / "http-operators.md"
TEXT = PAGE.read_text()
SECRET = "0123456789abcdef0123456789abcdef"
WHERE = "http://127.0.0.1:7402"


def blocks(language: str) -> list[str]:
    """All of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def commands() -> tuple[str, list[str]]:
    """What the first block sets up; and all lines that ask, the drain last."""
    first, *others = blocks("sh")
    lines = [line for block in others for line in block.splitlines()]
    return first, sorted(lines, key=lambda line: "/drain" in line)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    """A node of a cluster of one, with a listener for operators."""
    folder = tmp_path_factory.mktemp("operated")
    secret = folder / "secret"
    secret.touch(0o600)
    secret.write_text(SECRET)
    settings = f"""
data = "{folder}/data"
cluster_listen = "127.0.0.1:0"
durable = ["n1"]
[admin]
listen = "127.0.0.1:0"
token_file = "{secret}"
[[topics]]
filter = "jobs/#"
storage = "disk"
"""
    victim = Victim(folder, settings=settings)
    yield victim
    victim.end()  # it has been drained


async def prepare(node: Victim) -> None:
    """A name with a dead letter."""
    async with (
        triode.connect(f"http://{node.host}:{node.port}") as client,
        client.consume("jobs/#", durable="billing") as jobs,
    ):
        await client.publish("jobs/a", 1)
        with trio.fail_after(PATIENCE_SECONDS):
            await (await anext(jobs)).reject()


def test_settings_of_the_page_are_settings(tmp_path: Path) -> None:
    for block in blocks("toml"):
        tomllib.loads(block)
    file = tmp_path / "triode.toml"
    file.write_text("[auth]\nanonymous = true\n\n" + "\n".join(blocks("toml")))
    config = load(file=file).config
    assert config.admin.listen == WHERE.removeprefix("http://")
    assert config.permissions[1].deny_operate == ("subs/delete", "subs/rewind")


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")
def test_commands_of_the_page_do_what_it_says(node: Victim) -> None:
    trio.run(prepare, node)
    (url,) = node.logged("operators_served")["urls"]
    line = httpx.get(
        f"{url}/v1/connections", headers={"Authorization": f"Bearer {SECRET}"}, timeout=PATIENCE_SECONDS
    )
    connection = line.json()["connections"][0]["connection"]
    first, lines = commands()
    assert len(lines) >= 25
    asked = set()
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {SECRET}"}) as other:
        (own,) = [
            one for one in other.get("/v1/connections").json()["connections"] if one["connection"] != connection
        ]
        for command in lines:
            script = f"set -e\n{first.replace(WHERE, url)}\n{command}"
            environ = {"SECRET": SECRET, "CONNECTION": own["connection"], "PATH": "/usr/bin:/bin"}
            done = subprocess.run(["bash", "-c", script], env=environ, capture_output=True, check=False)
            assert done.returncode == 0, (command, done.stdout, done.stderr)
            asked.add(re.sub(r"[?\"'].*", "", command.partition("$api")[2]))
    assert len(asked) >= 15


def test_every_operation_is_on_the_page() -> None:
    for row in operators.OPERATIONS:
        assert f"| {row.method} | `{row.path}` |" in TEXT


def test_links_of_the_page_lead_somewhere() -> None:
    heads = re.findall(r"^#+ (.*)$", TEXT, re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}
    for file, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)", TEXT):
        assert not file or (PAGE.parent / file).exists(), file
        assert file or anchor in anchors, anchor
