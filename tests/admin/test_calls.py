"""Calls about names, through the socket: wrong parameters, many at once, stores that do not answer."""

from pathlib import Path
from typing import Any

import pytest
import trio
import triode
from triode_broker.admin import asking

from tests.admin.running import PATIENCE_SECONDS, Running, running


async def make(node: Running, *names: str, **terms: Any) -> None:
    """Durable names without members."""
    async with triode.connect(node.url) as client:
        for name in names:
            async with client.consume("jobs/#", durable=name, **terms):
                pass


async def test_names_are_listed_in_order_with_their_letters(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        await make(node, "b", "a", "c")
        listed = await node.names("subs.list")
        assert [(one["name"], one["dead_letters"], one["members"]) for one in listed] == [
            ("a", 0, 0),
            ("b", 0, 0),
            ("c", 0, 0),
        ]
        shown = await node.ask("subs.show", name="a")
        assert (shown["member_count"], shown["pending_count"], shown["pending"]) == (0, 0, [])


@pytest.mark.parametrize(
    "to",
    [
        *(None, 5, "", "last", "yesterday", [], {}, {"last": 3}, {"since": "x"}, {"since": -1}, {"after": 7}),
        *({"after": {"x": "y"}}, {"after": {}, "since": 1}, {"after": {"d0-a": -1}}, {"after": {"d0-a": 2**60}}),
    ],
    ids=str,
)
async def test_a_rewind_to_nowhere_changes_nothing(to: object, tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        await make(node, "worker")
        before = await node.ask("subs.show", name="worker")
        assert await node.refused("subs.rewind", name="worker", to=to)
        assert await node.ask("subs.show", name="worker") == before
        assert node.log.told("admin_call_failed") == []


@pytest.mark.parametrize("call", ["subs.show", "subs.rewind", "subs.delete"])
@pytest.mark.parametrize("name", [None, "", 7, ["a"], "nobody", "no\nbody"], ids=str)
async def test_a_name_that_is_none_is_told(call: str, name: object, tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        why = await node.refused(call, name=name, to="new")
        expected = "there is no durable subscription or group" if isinstance(name, str) and name else "which name?"
        assert why.startswith(expected)


async def test_rewind_and_delete_of_many_at_once(tmp_path: Path) -> None:
    names = [f"w{number}" for number in range(20)]
    async with running(tmp_path) as node:
        await make(node, *names, from_="earliest")
        async with triode.connect(node.url) as client:
            place = await client.publish("jobs/a", 1)

        async def rewind(name: str, to: object, pos: int) -> None:
            answer = await node.ask("subs.rewind", name=name, to=to)
            assert answer == {"name": name, "tenant": "", "after": {place.log: pos}, "home": "n1"}

        async def delete(name: str) -> None:
            answer = await node.ask("subs.delete", name=name)
            assert answer == {"name": name, "tenant": "", "dead_letters": 0, "home": "n1"}

        with trio.fail_after(PATIENCE_SECONDS):
            async with trio.open_nursery() as nursery:
                for name in names[:10]:
                    nursery.start_soon(rewind, name, {"after": {place.log: 1}}, 1)
                for name in names[10:]:
                    nursery.start_soon(delete, name)
        with trio.fail_after(PATIENCE_SECONDS):
            await rewind("w1", {"since": 0}, 0)
    async with running(tmp_path) as node:
        assert [(one["name"], one["lag"]) for one in await node.names("subs.list")] == [
            (name, 1 if name == "w1" else 0) for name in sorted(names[:10])
        ]


async def test_a_store_that_does_not_answer_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "PATIENCE_SECONDS", 0.05)
    async with running(tmp_path) as node:
        await make(node, "worker")
        gate, (store,) = trio.Event(), node.broker.stores

        def stall() -> None:
            trio.from_thread.run(gate.wait, trio_token=token)

        token = trio.lowlevel.current_trio_token()
        store._jobs.put(stall)
        assert await node.refused("subs.delete", name="worker") == "the store has not answered within 0.05 s"
        gate.set()
