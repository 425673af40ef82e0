"""`triode tenants`, and `--tenant`: an operator looks after names that two tenants have in common (S23)."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
import triode
from triode_broker.cli.exit_codes import ExitCode
from triode_broker.cli.main import main
from triode_broker.cli.subs import full_name
from triode_broker.cli.tenants import as_text
from triode_broker.config import Config
from triode_broker.core.tenants import is_tenant

from tests.admin.running import Running, running
from tests.cli.programs import PATIENCE_SECONDS
from tests.security.neighbours import Words


class Shell:
    """Commands, typed beside a broker in this process."""

    def __init__(self, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._data = str(data)
        self._capsys = capsys

    async def fails(self, *arguments: str) -> tuple[int, str]:
        """Its exit code, and what it says of it."""
        code = await trio.to_thread.run_sync(main, [*arguments, "--data", self._data])
        return code, self._capsys.readouterr().err

    async def output(self, *arguments: str) -> str:
        """What it prints."""
        code = await trio.to_thread.run_sync(main, [*arguments, "--data", self._data])
        printed = self._capsys.readouterr()
        assert (code, printed.err) == (ExitCode.OK, "")
        return printed.out


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    """For the broker of this test."""
    return Shell(tmp_path, capsys)


async def reject_one(node: Running, tenant: str) -> None:
    """A client of this tenant publishes a job, and a worker cannot do it."""
    async with (
        triode.connect(node.url, token=f"{tenant} ann") as client,
        client.consume("jobs/#", durable="worker") as jobs,
        client.subscribe("$dead/worker") as buried,
    ):
        await client.publish("jobs/a", tenant)
        with trio.fail_after(PATIENCE_SECONDS):
            await (await anext(jobs)).reject()
            await anext(buried)


async def jobs_of(node: Running, tenant: str) -> list[Any]:
    async with triode.connect(node.url, token=f"{tenant} ann") as client:
        return [one.data for one in (await client.history("jobs/a", last=10)).messages]


async def test_names_that_tenants_have_in_common_are_looked_after_one_by_one(tmp_path: Path, shell: Shell) -> None:
    """S23: what is done to the one is not done to the other."""
    async with running(tmp_path) as node:
        node.broker.node.gate = Words()
        await reject_one(node, "")
        assert "TENANT" not in await shell.output("subs", "list")
        await reject_one(node, "acme")
        head, first, second = (await shell.output("subs", "list")).splitlines()
        assert (head.split()[:2], first.split()[:2], second.split()[:2]) == (
            ["TENANT", "NAME"],
            ["-", "worker"],
            ["acme", "worker"],
        )
        assert len((await shell.output("subs", "list", "--tenant", "acme")).splitlines()) == 2
        assert len((await shell.output("dead", "list", "--tenant", "")).splitlines()) == 2
        assert (await shell.output("subs", "list", "--tenant", "nobody")).startswith("no durable")
        shown = await shell.output("subs", "show", "worker", "--tenant", "acme")
        assert shown.startswith("worker of tenant acme: durable on jobs/#, at home")
        assert "dead letters in $dead/worker: 1" in shown
        letters = json.loads(await shell.output("dead", "list", "worker", "--tenant", "acme", "--json"))
        assert [(one["topic"], one["data"], one["user"]) for one in letters["letters"]] == [
            ("jobs/a", "acme", "ann")
        ]
        assert (
            await shell.output("dead", "retry", "worker", "--tenant", "acme") == "1 dead letter published again\n"
        )
        assert (await jobs_of(node, "acme"), await jobs_of(node, "")) == (["acme", "acme"], [""])
        listed = json.loads(await shell.output("dead", "list", "--json"))
        assert listed == [{"name": "worker", "tenant": "", "count": 1, "home": "n1"}]
        rewound = await shell.output("subs", "rewind", "worker", "--tenant", "acme", "--to", "earliest")
        assert rewound.startswith("worker of tenant acme goes on after ")
        await reject_one(node, "acme")
        deleted = await shell.output("subs", "delete", "worker", "--tenant", "acme")
        assert deleted.endswith("see triode dead list worker --tenant acme\n")
        assert [one["tenant"] for one in json.loads(await shell.output("subs", "list", "--json"))] == [""]


async def test_what_tenants_do_is_shown(tmp_path: Path, shell: Shell) -> None:
    """Item 5: metrics per tenant."""
    async with running(tmp_path) as node:
        node.broker.node.gate = Words()
        async with (
            triode.connect(node.url, token="acme ann") as client,
            client.subscribe("rooms/#") as messages,
        ):
            await client.publish("rooms/1", "x")
            await anext(messages)
            head, default, acme = (await shell.output("tenants")).splitlines()
            rows = json.loads(await shell.output("tenants", "--json"))
    assert head.split("  ")[0] == "TENANT"
    assert default.split() == ["-", "0", "0", "0", "0", "0", "0"]
    assert acme.split()[:5] == ["acme", "1", "1", "1", "1"]
    assert [(one["name"], one["delivered"], one["home"]) for one in rows] == [("", 0, "n1"), ("acme", 1, "n1")]
    assert rows[1]["received_bytes"] > 100


async def test_what_is_no_tenant_is_refused(tmp_path: Path, shell: Shell) -> None:
    """It would be part of another one."""
    commands = [("subs", "show", "w"), ("dead", "list"), ("subs", "list"), ("dead", "retry", "w")]
    async with running(tmp_path):
        for arguments in commands:
            code, said = await shell.fails(*arguments, "--tenant", "a/b")
            assert (code, "tenant is not the name of one" in said) == (ExitCode.REFUSED, True)


@pytest.mark.parametrize("row", ["tokens", "permissions", "quotas"])
@pytest.mark.parametrize("name", ["a/b", "a:b", "a\n", "+", "é", "x" * 65])
def test_settings_name_no_tenant_that_is_none(row: str, name: str) -> None:
    """S23: what is called that would be part of another one."""
    for possible in ("", "acme", "x" * 64):
        msgspec.convert({row: [{"tenant": possible}]}, Config)
        assert is_tenant(possible)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({row: [{"tenant": name}]}, Config)
    assert not is_tenant(name)


def test_counts_of_all_nodes_are_added_up() -> None:
    """The row of the others comes last, and says what it is."""
    row = dict.fromkeys(("connections", "subscriptions", "publishes", "delivered", "received_bytes", "refused"), 1)
    names = [{"name": name, "home": home, **row} for home in ("n1", "n2") for name in ("*", "a", "")]
    lines = as_text({"names": names}).splitlines()
    assert [line.split()[:2] for line in lines[1:4]] == [["-", "2"], ["a", "2"], ["*", "2"]]
    assert lines[4].startswith("*: tenants beyond")


def test_node_of_an_older_build_knows_of_no_tenants() -> None:
    """Its names are of the one without a name."""
    assert full_name({"name": "worker"}) == "worker"
