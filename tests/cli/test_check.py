"""`triode check`: each thing that it looks at, right and wrong; before a start, and for one that runs."""

import json
import socket
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
import trustme
from triode_broker.cli import check_machine, check_node, check_settings
from triode_broker.cli.check import as_text
from triode_broker.cli.check_peers import peers
from triode_broker.cli.exit_codes import ExitCode, Failure
from triode_broker.cli.finding import Finding, fail, ok, warn
from triode_broker.config import Config

from tests.admin.running import running
from tests.cli.programs import BrokerAt, run

DAY = 86_400.0


def config(**settings: Any) -> Config:
    return msgspec.convert(settings, Config)


def levels(found: Any) -> list[str]:
    return [one.level for one in found]


def whole(found: Any) -> str:
    return as_text(list(found))


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Config]:
    """For example.org, with its authority behind it."""
    issued = trustme.CA().create_child_ca().issue_cert("example.org", "*.example.net")
    file, key = tmp_path / "c.pem", tmp_path / "k.pem"
    file.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    key.write_bytes(issued.private_key_pem.bytes())
    key.chmod(0o600)
    tls = {"certificate": str(file), "key": str(key)}
    return file, config(tls=tls, advertise="wss://example.org/ws")


def test_a_certificate_is_judged_by_time_names_and_chain(certificate: tuple[Path, Config]) -> None:
    file, settings = certificate
    found = list(check_settings.certificates(settings))
    assert levels(found) == ["ok"] * len(found)
    assert any("chain of 2" in one.what for one in found)
    elsewhere = msgspec.structs.replace(settings, advertise="wss://example.com/ws")
    assert "example.com is not among its names (example.org, *.example.net)" in whole(
        check_settings.certificates(elsewhere)
    )
    below = msgspec.structs.replace(settings, advertise="wss://a.example.net/ws")
    assert "warn" not in levels(check_settings.certificates(below))
    blocks = file.read_bytes().split(b"-----END CERTIFICATE-----\n")
    first = blocks[0] + b"-----END CERTIFICATE-----\n"
    file.write_bytes(first)
    assert "the file has no issuer" in whole(check_settings.certificates(settings))
    file.write_bytes(first + first)
    assert "was not issued by the next one" in whole(check_settings.certificates(settings))
    file.write_bytes(b"nothing")
    assert levels(check_settings.certificates(settings)) == ["fail"]


@pytest.mark.parametrize(("now", "level"), [(0.0, "fail"), (9e9, "ok"), (9e10, "fail")])
def test_a_certificate_is_good_only_in_its_time(certificate: tuple[Path, Config], now: float, level: str) -> None:
    """The certificates of trustme end in 3000."""
    _, settings = certificate
    assert levels(check_settings.certificates(settings, now))[0] == level


def test_secrets_are_for_their_user_alone(tmp_path: Path) -> None:
    """S14."""
    file = tmp_path / "secret"
    settings = config(cluster_secret_file=str(file))
    assert "there is no such file" in whole(check_settings.secrets(settings))
    file.write_bytes(b"s" * 32)
    file.chmod(0o644)
    assert "others of this machine may read it" in whole(check_settings.secrets(settings))
    file.chmod(0o600)
    assert levels(check_settings.secrets(settings)) == ["ok"]
    file.write_bytes(b" \n")
    assert "is empty" in whole(check_settings.secrets(settings))


def test_what_is_not_safe_is_said_with_a_way_out() -> None:
    """S15."""
    assert levels(check_settings.settings(config(), {})) == ["ok", "ok"]
    found = list(check_settings.settings(config(listen="0.0.0.0:7400"), {}))
    assert levels(found) == ["ok", "fail"]
    assert "--insecure" in found[1].advice


def test_a_port_is_free_ours_or_somebody_elses() -> None:
    def nobody(address: str, is_tls: bool) -> str | None:
        return None

    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = f"127.0.0.1:{server.getsockname()[1]}"
        assert "another program listens there" in whole(check_machine.ports(config(listen=taken), nobody))
        assert "this node, n1," in whole(check_machine.ports(config(listen=taken), lambda *_: "n1"))
        assert "another Triode node, n2," in whole(check_machine.ports(config(listen=taken), lambda *_: "n2"))
    assert levels(check_machine.ports(config(listen="127.0.0.1:0"), nobody)) == ["ok"]
    assert levels(check_machine.ports(config(listen="192.0.2.1:7400"), nobody)) == ["fail"]


def test_descriptors_are_as_many_as_connections() -> None:
    assert levels(check_machine.descriptors(config(limits={"max_connections": 10}))) == ["ok"]
    (found,) = check_machine.descriptors(config(limits={"max_connections": 2_000_000_000}))
    assert (found.level, "LimitNOFILE=2000000200" in found.advice) == ("warn", True)


def test_limits_of_the_kernel_are_held_against_what_is_needed(tmp_path: Path) -> None:
    for name, value in (("net/core/somaxconn", "128\n"), ("fs/file-max", "99999999\n")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(value)
    found = list(check_machine.kernel(config(), tmp_path))
    assert levels(found) == ["warn", "ok"]
    assert "sysctl -w net.core.somaxconn=" in found[0].advice


def test_a_disk_is_written_to_and_left_as_it_was(tmp_path: Path) -> None:
    found = list(check_machine.disk(config(data=str(tmp_path))))
    assert any("a flush takes" in one.what for one in found)
    assert not list(tmp_path.iterdir())
    tmp_path.chmod(0o777)
    assert "others may write there" in whole(check_machine.disk(config(data=str(tmp_path))))
    assert levels(check_machine.disk(config(data=str(tmp_path / "later")))) == ["ok"]
    assert not list(check_machine.disk(config()))


@pytest.mark.parametrize(("ms", "level"), [(0.001, "warn"), (3.0, "ok"), (50.0, "warn")])
def test_a_flush_takes_as_long_as_a_disk_needs(ms: float, level: str) -> None:
    assert check_machine._flushed(ms).level == level


def test_a_proxy_in_front_is_guessed_from_what_is_advertised() -> None:
    (found,) = check_machine.surroundings(config(advertise="wss://example.org/ws"), {})
    assert "trusted_proxies" in found.advice
    behind = config(trusted_proxies=["10.0.0.0/8"])
    assert levels(check_machine.surroundings(behind, {"INVOCATION_ID": "x"})) == ["ok", "ok"]


class Answers:
    """A node that answers what it was given; an exception is raised."""

    def __init__(self, **answers: Any) -> None:
        self._answers = answers

    def call(self, name: str, /, **parameters: object) -> Any:
        answer = self._answers.get(name, Failure(ExitCode.REFUSED, f"no {name}"))
        if isinstance(answer, Exception):
            raise answer
        return answer


def one_node(**facts: Any) -> dict[str, Any]:
    gauges = {"connections": 1, "open_descriptors": 10, "max_descriptors": 100, "loop_lag_us": 5}
    return {
        "version": "1",
        "commit": "",
        "unready": [],
        "gauges": gauges,
        "engines": [],
        "at_ms": 1_000_000,
        **facts,
    }


def test_a_node_that_runs_is_judged_by_what_it_says() -> None:
    busy = {"connections": 1, "open_descriptors": 95, "max_descriptors": 100, "loop_lag_us": 900_000}
    full = {"engine": "d0", "state": "full", "damaged_messages": 1}
    bad = one_node(unready=["draining"], gauges=busy, engines=[full], at_ms=1_060_000, version="2")
    answer = {"nodes": {"n1": one_node(), "n2": bad}, "unanswered": ["n3"]}
    text = whole(check_node.node(Answers(figures=answer), lambda: 1_000.0))
    for words in (
        "fail  node         n3: no answer",
        "ok    node         n1 is ready",
        "ok    clock        n1's clock",
        "fail  node         n2 is not ready: draining",
        "warn  descriptors  n2: 95 of 100",
        "warn  load         n2: its loop is 900 ms late",
        "fail  disk         n2: store d0 is full",
        "warn  clock        n2's clock is 60.0 s ahead of this one",
        "warn  versions     nodes run 1, 2",
    ):
        assert words in text
    assert levels(check_node.node(Answers())) == ["fail"]


def test_a_cluster_that_runs_is_judged_too() -> None:
    links = [{"links": [{"drift": ["limits"]}]}]
    view = {"degraded": {"n1": ["no link"]}, "missing": ["n2"], "agreed": False, "nodes": links}
    answers = Answers(figures={"nodes": {}, "unanswered": []}, cluster=view)
    assert levels(check_node.node(answers)) == ["warn", "fail", "warn", "warn"]


def test_a_clock_is_judged_by_a_date_as_far_as_that_goes() -> None:
    date = "Thu, 01 Jan 1970 00:16:40 GMT"
    assert check_node.http_date(date, 1_000.0, 1_001.0).level == "ok"
    assert check_node.http_date(date, 2_000.0, 2_001.0).level == "warn"
    assert check_node.http_date("never", 0, 0).level == "warn"


def test_text_has_what_to_do_below_and_drives_no_terminal() -> None:
    """S27."""
    shown = as_text([ok("a", "fine"), warn("long", "\x1b[2J", "mend\n it"), fail("b", "bad", "")])
    assert shown == (
        "ok    a     fine\nwarn  long  \\u001b[2J\n            → mend\\n it\nfail  b     bad\n"
        "1 ok, 1 to look at, 1 wrong\n"
    )


async def test_peers_are_greeted_and_no_link_comes_of_it(tmp_path: Path) -> None:
    """The secret, the cluster's name and what drifts are found out."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"s" * 32)
    secret.chmod(0o600)
    common = {"cluster": "c", "cluster_secret_file": str(secret), "topics": []}
    async with running(tmp_path / "1", node="n1", cluster_listen="127.0.0.1:0", **common) as one:
        assert one.broker.joining is not None
        seeds = [one.broker.joining.cluster.identity.cluster_advertise]

        async def greet(**facts: Any) -> list[Finding]:
            settings = config(node="n2", **{**common, "seeds": seeds, **facts})
            return await trio.to_thread.run_sync(lambda: list(peers(settings)))

        assert levels(await greet()) == ["ok", "ok"]
        assert "limits differ" in whole(await greet(limits={"max_connections": 7}))
        assert "other_cluster" in whole(await greet(cluster="d"))
        other = tmp_path / "other"
        other.write_bytes(b"x" * 32)
        other.chmod(0o600)
        found = await greet(cluster_secret_file=str(other))
        assert "wrong_secret" in found[1].what
        assert "the same on all nodes" in found[1].advice
        assert one.broker.joining.cluster.links.links == []
        assert levels(await greet(seeds=["ws://nowhere.invalid:7401"])) == ["fail"]
        assert levels(await greet(seeds=["ws://127.0.0.1:9"])) == ["ok", "fail"]


async def test_before_a_start_and_for_one_that_runs(broker: BrokerAt, tmp_path: Path) -> None:
    file = tmp_path / "triode.toml"
    listen = broker.url.removeprefix("ws://").removesuffix("/ws")
    file.write_text(f'listen = "{listen}"\ndata = "{tmp_path}"\n[limits]\nmax_connections = 100\n')
    ended = await run("check", "--config", str(file))
    assert ended.code == ExitCode.OK, ended
    assert f"listen {listen}: this node, n1, listens there already" in ended.output
    url = f"http://{listen}"
    ended = await run("check", "--url", url, "--json", "--date-url", url)
    assert ended.code == ExitCode.OK, ended
    found = json.loads(ended.output)
    assert found["ok"]
    assert {"node", "clock"} <= {one["about"] for one in found["findings"]}
    file.write_text("listen = 3\n")
    ended = await run("check", "--config", str(file))
    assert ended.code == ExitCode.FAILURE
    assert ended.output.startswith("fail  settings  ")
