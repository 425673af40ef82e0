"""docs/webhooks.md: its settings are settings, its table has every kind, its checks of a request check it."""

import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from msgspec import convert
from triode_broker.cli.webhook_settings import webhook_problems
from triode_broker.config import Config, Webhook
from triode_broker.core.events import TOPICS
from triode_broker.posture import unsafe
from triode_broker.webhooks.signing import sign
from triode_broker.webhooks.wanted import Wanted, by_tenant, kinds_of

from tests.house.tree import ROOT
from tests.webhooks.sink import SECRET

TEXT = (ROOT / "docs" / "webhooks.md").read_text()
BODY = '{"id":"1","node":"n1","events":[]} ü'.encode()
NOW = 1_732_281_000
#: Header, body, and whether it is to be taken.
CASES = [
    (sign([SECRET.encode()], NOW, BODY), BODY, True),
    (sign([b"another secret, that is new", SECRET.encode()], NOW - 299, BODY), BODY, True),
    (sign([SECRET.encode()], NOW - 301, BODY), BODY, False),
    (sign([SECRET.encode()], NOW, BODY), BODY + b" ", False),
    (sign([b"not the secret"], NOW, BODY), BODY, False),
    (sign([SECRET.encode()], NOW, BODY).replace(f"t={NOW}", f"t={NOW + 1}"), BODY, False),
    ("", BODY, False),
    (f"t={NOW},v1=", BODY, False),
    ("t=x,v1=00,v1", BODY, False),
]


def block(language: str) -> str:
    """The one of a language."""
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    return str(found)


def test_settings_are_settings_and_nothing_is_wrong_with_them() -> None:
    config = convert(tomllib.loads(block("toml")), Config)
    assert list(webhook_problems(config)) == []
    assert [one.name for one in unsafe(config)] == []
    assert by_tenant(config.webhooks)[""] == {"member.joined", "member.left", "dead_letter", "events.lost"}


def test_every_kind_is_told_of() -> None:
    assert set(re.findall(r"^\| `([a-z_]+(?:\.[a-z]+)?)` \|", TEXT, re.MULTILINE)) == set(TOPICS)
    assert set(re.findall(r"`(\$events/[a-z-]+)`", TEXT)) == set(TOPICS.values())


def test_the_check_in_python_checks(tmp_path: Path) -> None:
    names: dict[str, Any] = {}
    exec(block("python"), names)
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    assert names["secret_in"](str(tmp_path / "secret")) == SECRET
    for header, body, is_good in CASES:
        assert names["is_from_triode"](header, body, SECRET, NOW) is is_good, header


def test_the_check_in_javascript_checks(tmp_path: Path) -> None:
    node = shutil.which("node")
    assert node is not None
    cases = json.dumps([[header, body.decode(), is_good] for header, body, is_good in CASES])
    script = tmp_path / "check.mjs"
    secret = tmp_path / "secret"
    secret.write_text(f"{SECRET}\n")
    script.write_text(
        block("js")
        + f"for (const [header, body, isGood] of {cases})\n"
        + f"  if (isFromTriode(header, body, secretIn({str(secret)!r}), {NOW}) !== isGood)\n"
        + "    throw new Error(header);\n"
    )
    done = subprocess.run([node, script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"name": ""}, "name"),
        ({"url": "ftp://x"}, "url"),
        ({"url": "https://user:word@x/"}, "url"),
        ({"events": ("nothing",)}, "events"),
        ({"events": ("*",)}, "events"),
        ({"topics": ("a/#/b",)}, "topics"),
        ({"secret_file": ""}, "secret_file"),
        ({"secret_env": "X"}, "secret_file"),
        ({"backoff_min_ms": 10, "backoff_max_ms": 5}, "backoff_min_ms"),
    ],
)
def test_what_is_wrong_with_a_row_is_said(fields: dict[str, Any], field: str) -> None:
    given = {"name": "a", "url": "https://x/", "secret_file": "s", **fields}
    ((name, wrong),) = webhook_problems(Config(webhooks=(Webhook(**given),)))
    assert name == f"webhooks #1 {field}"
    assert wrong


def test_two_of_one_name_and_plain_http_to_others_are_refused() -> None:
    row = Webhook(name="a", url="http://other.example/", secret_file="s")
    config = Config(webhooks=(row, row))
    assert [name for name, _ in webhook_problems(config)] == ["webhooks #2 name"]
    assert {one.name for one in unsafe(config) if one.is_refused} == {"webhooks.url"}


def test_topics_choose_among_events_that_have_one() -> None:
    wanted = Wanted(Webhook(topics=("rooms/+",)))
    for event, is_so in (
        (b'{"kind":"topic.occupied","topic":"rooms/1"}', True),
        (b'{"kind":"topic.occupied","topic":"halls/1"}', False),
        (b'{"kind":"client.connected"}', True),
        (b'{"kind":"of a newer build"}', False),
        (b"1", False),
    ):
        assert wanted.is_for(event) is is_so, event  # type: ignore[arg-type]  # as bytes it is read the same
    assert kinds_of(Webhook(events=("client.*",))) == {"client.connected", "client.disconnected", "events.lost"}
