"""S8, G10 over real nodes: what one user may have and do is bounded on all nodes together (docs/limits.md).

The figures are those of that page, and so are the times: of a rate ten seconds are judged, from the third second
on, by the broker's own stamps.
"""

from collections.abc import Iterator

import pytest
import trio
import triode

from tests.security.nodes import SETTINGS, Nodes, Street, nodes
from tests.security.withdrawing import token

MOST_CONNECTIONS = 5
PER_SECOND = 100
TOLERANCE = 1.3
SETTLED_MS, JUDGED_MS = 2_000, 10_000
PATIENCE_SECONDS = 60.0
QUOTAS = f"""
[[quotas]]
role = "few"
user_max_connections = {MOST_CONNECTIONS}
[[quotas]]
role = "slow"
publishes_per_second = 0
user_publishes_per_second = {PER_SECOND}
"""


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    with nodes(tmp_path_factory.mktemp("nodes"), SETTINGS + QUOTAS) as found:
        yield found


async def test_s8_connections_of_a_user_are_those_of_all_nodes(street: Street) -> None:
    """S8, SPEC 11.7.5: all at n1; none at n2 as soon as it knows of them; when they are gone, there again."""
    few = token("ann", roles=["all", "few"])
    for _ in range(MOST_CONNECTIONS):
        await street.enter("n1", few)
    with trio.fail_after(PATIENCE_SECONDS):
        while (code := await knock(street, "n2", few)) == 0:
            await trio.lowlevel.checkpoint()
        assert (code, await knock(street, "n1", few)) == (4103, 4103)
        await street.enter("n2", token("bob", roles=["all", "few"]))
        await street.clear()
        while code := await knock(street, "n2", few):
            assert code == 4103


async def knock(street: Street, name: str, credential: str) -> int:
    """Connect and leave; what a refused connection is closed with, or 0."""
    client, answer = await street.knock(name, credential)
    if answer["type"] == "connected":
        await client.send({"type": "disconnect"})
        await client.closed()
        return 0
    assert answer["type"] == "bye", answer
    return await client.closed()


async def test_s8_a_user_who_floods_two_nodes_gets_what_one_would_give(street: Street) -> None:
    """S8, G10, SPEC 11.7.5: in any ten seconds at most 1.3 times the rate; nothing accepted is lost."""
    topic = street.nodes.topic("flood/a", "n1")
    slow = token("ann", roles=["all", "slow"])

    async def flood(name: str) -> None:
        async with triode.connect(street.nodes.url(name), token=slow) as client:
            while True:
                await client.publish_many([(topic, name)] * PER_SECOND)

    stamps: list[int] = []
    heard: set[str] = set()
    reader = token("reader", roles=["all"])
    with trio.fail_after(PATIENCE_SECONDS):
        async with triode.connect(street.nodes.url("n2"), token=reader) as client, trio.open_nursery() as nursery:
            async with client.subscribe(topic) as messages:
                for name in ("n1", "n2"):
                    nursery.start_soon(flood, name)
                async for message in messages:
                    stamps.append(message.ts)
                    heard.add(message.data)
                    if stamps[-1] - stamps[0] > SETTLED_MS + JUDGED_MS:
                        break
            nursery.cancel_scope.cancel()
    judged = [stamp for stamp in stamps if stamps[0] + SETTLED_MS <= stamp < stamps[0] + SETTLED_MS + JUDGED_MS]
    allowed = PER_SECOND * JUDGED_MS / 1000
    assert allowed / 2 < len(judged) <= allowed * TOLERANCE
    assert heard == {"n1", "n2"}
