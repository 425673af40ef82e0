"""README.md is true: its snippets are run, its commands parsed, its links followed, its figures counted."""

import re
import select
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import ConsoleMessage
from triode_broker.cli.arguments import make_parser
from triode_broker.http.pages import demo_page, demo_script

from tests.authority import issue
from tests.browser.built import built_client
from tests.browser.chromium import PATIENCE_MS, open_browser
from tests.browser.processes import TRIODE, Broker
from tests.house.tree import ROOT

README = (ROOT / "README.md").read_text()
DEPLOY = (ROOT / "deploy" / "README.md").read_text()
FIRST_SCREEN = README.partition("\n## ")[0]
ADDRESS = "ws://127.0.0.1:7400"
MAX_SNIPPET_LINES = 10


def blocks(text: str, language: str) -> list[str]:
    """The code blocks of one language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def snippet(language: str, broker: Broker) -> str:
    """The first block of the first screen in a language, for this broker instead of the default one."""
    source = blocks(FIRST_SCREEN, language)[0]
    assert ADDRESS in source
    return source.replace(ADDRESS, f"ws://127.0.0.1:{broker.port}")


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    broker = Broker(tmp_path / "broker.log")
    broker.start()
    try:
        yield broker
    finally:
        broker.end()


@contextmanager
def running(source: str) -> Iterator[None]:
    """A Python program as a process; it must still run at the end of the block."""
    program = subprocess.Popen([sys.executable, "-c", source])
    try:
        yield
        assert program.poll() is None
    finally:
        program.kill()
        program.wait()


def test_first_screen_has_the_commands_the_snippets_and_the_picture() -> None:
    assert [line.split("#")[0].strip() for line in blocks(FIRST_SCREEN, "sh")[0].splitlines()] == [
        "make run",
        "make test",
    ]
    picture = re.search(r'<img src="([^"]+)"[^>]* alt="[^"]+"', FIRST_SCREEN)
    assert picture
    assert (ROOT / picture[1]).read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("language", ["python", "js"])
def test_snippets_have_ten_lines_at_most(language: str) -> None:
    assert (
        len([line for line in blocks(FIRST_SCREEN, language)[0].splitlines() if line.strip()]) <= MAX_SNIPPET_LINES
    )


def test_publisher_of_the_readme_publishes(broker: Broker) -> None:
    listen = [TRIODE, "sub", "sensors/load", "--count", "2", "--url", broker.socket_url]
    with running(snippet("python", broker)):
        heard = subprocess.run(listen, capture_output=True, text=True, check=True).stdout
    assert len(re.findall(r'\{"load": ?[0-9.]+\}', heard)) == 2


@pytest.mark.browser
def test_subscriber_of_the_readme_hears_the_publisher(broker: Broker, tmp_path: Path) -> None:
    subscriber = snippet("js", broker).replace('import { Triode } from "triode";\n', "")  # a script has it already
    script = built_client(tmp_path) / "triode.iife.js"
    with open_browser() as browser:
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{broker.port}/healthz")  # one of no origin may not connect
        page.add_script_tag(path=script)

        def is_message(said: ConsoleMessage) -> bool:
            return "sensors/load" in str([argument.json_value() for argument in said.args])

        with page.expect_console_message(is_message, timeout=PATIENCE_MS) as said:
            page.add_script_tag(content=subscriber)
            with running(snippet("python", broker)):
                (message,) = [argument.json_value() for argument in said.value.args]
    assert message["topic"] == "sensors/load"
    assert set(message["data"]) == {"load"}
    assert message["data"]["load"] >= 0


@pytest.mark.parametrize("text", [README, DEPLOY], ids=["README", "deploy"])
def test_commands_of_the_readme_are_commands(text: str) -> None:
    parser = make_parser()
    for block in blocks(text, "sh"):
        for line in block.splitlines():
            for command in re.split(r" \| ", line):
                words = shlex.split(command, comments=True)
                if words and words[0].endswith("triode"):
                    parser.parse_args(words[1:])


def test_make_targets_of_the_readme_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:`|^)make ([a-z]+)", README, re.MULTILINE))
    assert {"run", "test"} <= named <= targets


@pytest.mark.parametrize("example", blocks(README, "toml"))
def test_configuration_of_the_readme_is_accepted(example: str, tmp_path: Path) -> None:
    file = tmp_path / "triode.toml"
    file.write_text(example)
    issued = issue(tmp_path, "127.0.0.1")
    for name, source in ("fullchain.pem", issued.certificate), ("privkey.pem", issued.key):
        Path(source).rename(tmp_path / name)
    for name in ("jwt.secret", "admin.secret"):
        (tmp_path / name).touch(0o600)
        (tmp_path / name).write_text("s" * 64)
    check = [TRIODE, "serve", "--config", str(file), "--check"]
    effective = subprocess.run(check, capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    filters = re.findall(r'^filter = "(.*)"$', example, re.MULTILINE) + re.findall(r'"([a-z]+/[^"]*)"', example)
    filters += re.findall(r'^listen = "(.*)"$', example, re.MULTILINE)
    assert filters
    assert all(filter in effective for filter in filters)


@pytest.mark.parametrize("source", [block for block in blocks(README, "python") if ".consume(" in block])
def test_worker_of_the_readme_works(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broker: Broker
) -> None:
    """With the configuration that stands above it."""
    above = README.partition(source)[0]
    (tmp_path / "triode.toml").write_text(blocks(above, "toml")[-1])
    monkeypatch.setenv("TRIODE_CONFIG", str(tmp_path / "triode.toml"))
    monkeypatch.setenv("TRIODE_DATA", str(tmp_path / "data"))
    broker.kill()
    broker.start()
    program = source.replace(ADDRESS, f"ws://127.0.0.1:{broker.port}")
    publish = [TRIODE, "pub", "jobs/mail", "to ada", "--url", broker.socket_url]
    worker = subprocess.Popen([sys.executable, "-u", "-c", program], stdout=subprocess.PIPE, text=True)
    try:
        assert worker.stdout
        while not select.select([worker.stdout], [], [], 0)[0]:  # its name begins with what is new
            subprocess.run(publish, check=True)
        assert worker.stdout.readline() == "doing jobs/mail to ada\n"
    finally:
        worker.kill()
        worker.communicate()


@pytest.mark.parametrize("file", ["README.md", "deploy/README.md"])
def test_links_lead_somewhere(file: str) -> None:
    text = (ROOT / file).read_text()
    links = re.findall(r"\]\((?!https?:)([^)#]+)", text) + re.findall(r'src="(?!https?:)([^"]+)"', text)
    missing = [link for link in links if not ((ROOT / file).parent / link).exists()]
    assert links
    assert not missing


def test_lines_of_the_demo_are_as_many_as_the_readme_says() -> None:
    claimed = re.search(r"in (\d+) lines", README)
    assert claimed
    assert int(claimed[1]) == len([line for line in demo_script(demo_page()).splitlines() if line.strip()])


def test_unit_starts_the_broker_as_it_can_be_started() -> None:
    unit = (ROOT / "deploy" / "systemd" / "triode.service").read_text()
    command = re.search(r"^ExecStart=(\S+) (.*)$", unit, re.MULTILINE)
    assert command
    make_parser().parse_args(shlex.split(command[2]))
    assert command[1] in DEPLOY


def test_drop_in_brings_what_the_unit_takes_away() -> None:
    """The group of files with secrets, by its one name wherever it is told, and the right to port 443."""
    unit, drop_in = (
        dict(re.findall(r"^(\w+)=(.*)$", (ROOT / "deploy" / "systemd" / file).read_text(), re.MULTILINE))
        for file in ("triode.service", "triode.service.d/network.conf")
    )
    assert (unit["DynamicUser"], unit["CapabilityBoundingSet"], unit["AmbientCapabilities"]) == ("yes", "", "")
    assert drop_in["CapabilityBoundingSet"] == drop_in["AmbientCapabilities"] == "CAP_NET_BIND_SERVICE"
    group = drop_in["SupplementaryGroups"]
    assert f"groupadd --system --force {group}" in DEPLOY
    assert f"chgrp -R {group} " in (ROOT / "docs" / "tls.md").read_text()
