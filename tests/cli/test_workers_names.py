"""Durable subscriptions of `serve --workers N`: a worker's clients reach the names of all (SPEC 9.9.1)."""

import json
from contextlib import AsyncExitStack
from pathlib import Path

import triode

from tests.cli.programs import run
from tests.cli.test_workers import TOPICS, Events, at_every_worker, durable, serve


async def test_names_and_their_letters_are_reached_through_every_worker(tmp_path: Path) -> None:
    names = [f"worker{number}" for number in range(6)]
    async with serve(*durable(tmp_path), count=3) as program:
        url = await Events(program.errors()).started(3)
        async with at_every_worker(url, 3) as clients, AsyncExitStack() as stack:
            for number, name in enumerate(names):
                client = clients[number % 3]
                jobs = await stack.enter_async_context(client.consume("jobs/#", durable=name, max_attempts=1))
                await clients[0].publish(TOPICS[number], number)
                delivery = await anext(jobs)
                assert isinstance(delivery, triode.Delivery)
                assert delivery.data == number
                await delivery.reject()
        listed = await run("subs", "list", "--data", str(tmp_path / "data"), "--json")
        found = json.loads(listed.output)
        assert [one["name"] for one in found] == names
        one_of_each = {one["home"]: one["name"] for one in found}
        assert sorted(one_of_each) == ["n1", "n1-1", "n1-2"]
        assert [one["dead_letters"] for one in found] == [1] * 6
        for name in one_of_each.values():
            retried = await run("dead", "retry", name, "--data", str(tmp_path / "data"))
            assert (retried.code, retried.output) == (0, "1 dead letter published again\n")
