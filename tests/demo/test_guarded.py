"""The feeder where clients need a credential: it has one of its own, which reaches no further than the demo."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import structlog
import triode
from structlog.testing import LogCapture
from triode_broker.config import Config, Permission
from triode_broker.core.identity import UNKNOWN
from triode_broker.core.rights import ACTIONS
from triode_broker.demo.figures import PREFIX
from triode_broker.server import FEEDER, Broker

from tests.cli.programs import Triode
from tests.cli.test_workers import Events
from tests.security.withdrawing import SECRET, token

RULES = (
    'demo = true\n[[tokens]]\nalgorithm = "HS256"\nkey_file = "secret"\n[[permissions]]\nsubscribe = ["demo/#"]\n'
)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with a demo and a rule."""
    monkeypatch.chdir(tmp_path)
    secret, file = tmp_path / "secret", tmp_path / "triode.toml"
    secret.touch(0o600)
    secret.write_text(SECRET)
    file.write_text(RULES)
    return file


@pytest.mark.parametrize("workers", [1, 2])
async def test_the_demo_is_fed_where_clients_need_a_credential(settings: Path, workers: int) -> None:
    """By one process or several: the feeder's connection may come to any of them."""
    more = ("--workers", str(workers), "--log-format", "json")
    async with Triode("serve", "--config", str(settings), "--listen", "127.0.0.1:0", *more) as program:
        events = Events(program.errors())
        url = await events.started(workers) if workers == 1 else (await events.up())[0]
        async with (
            triode.connect(url, token=token("ada")) as client,
            client.subscribe(f"{PREFIX}/load") as figures,
        ):
            assert (await anext(figures)).user == "demo"
        program.signal(signal.SIGTERM)
        lines = await events.rest()
    assert not [line for line in lines if line["event"] in ("demo_failing", "credential_refused")]


def test_its_credential_is_random_and_reaches_no_further_than_the_demo(settings: Path) -> None:
    """S10, S14: whoever got hold of it could write figures, and a rule for everybody adds nothing to it."""
    assert FEEDER.rights.may("publish", "demo/host/load")
    assert not FEEDER.rights.may("publish", "rooms/1")
    assert not any(FEEDER.rights.verdict(action, "#") != "none" for action in ACTIONS if action != "publish")
    kept = LogCapture()
    log = structlog.wrap_logger(None, processors=[kept])
    rules = (Permission(publish=("#",)),)
    config = Config(demo=True, permissions=rules)
    one, other = Broker(config, log), Broker(config, log)
    assert one._feed_token != other._feed_token
    assert len(one._feed_token) >= 43  # 256 bits
    answers: list[Any] = []
    for broker in (one, other):
        assert broker.authority is not None
        broker.authority.ask(one._feed_token, UNKNOWN, answers.append)
        assert broker.authority.judge(FEEDER) is FEEDER
    assert answers[0] is FEEDER
    assert answers[1].name == "unauthorized"
    assert one._feed_token not in json.dumps([kept.entries, one.health()], default=str)
