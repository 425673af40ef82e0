"""What would happen to a message of a topic, as operators ask for it."""

from pathlib import Path

import pytest
import triode
from triode_broker.admin.everywhere import Alone
from triode_broker.admin.listener import BadCall
from triode_broker.admin.routing import Routing
from triode_broker.config import Permission, TopicRule

from tests.admin.running import running
from tests.core.desk import Desk

ROWS = (
    Permission(role="shop", publish=("orders/#",)),
    Permission(role="guest", publish=("#",), deny_publish=("orders/+",)),
    Permission(role="user", publish=("users/{user}/#",)),
    Permission(role="other", tenant="acme", publish=("#",)),
)


def routing(desk: Desk, rows: tuple[Permission, ...] | None = ROWS) -> Routing:
    """Of a desk."""
    node = desk.node
    return Routing(node.name, node.router, node.consumers, lambda shard: ("n1", 0), lambda: rows, Alone())


async def test_route_names_rule_shard_owner_and_subscribers(tmp_path: Path) -> None:
    async with (
        running(tmp_path) as node,
        triode.connect(node.url) as client,
        client.subscribe("jobs/#"),
        client.consume("jobs/#", durable="work"),
    ):
        answer = await node.ask("route", topic="jobs/x")
    assert (answer["topic"], answer["shard"], answer["storage"], answer["is_reachable"]) == (
        "jobs/x",
        "d0",
        "disk",
        True,
    )
    own = answer["nodes"][answer["owner"]]
    assert (own["live"], own["durable"], own["durable_count"], own["group_count"]) == (1, ["work"], 1, 0)
    assert answer["publishers"] == [{"role": "", "tenant": "", "filter": "#", "but": ""}]
    assert answer["unanswered"] == []


async def test_route_says_who_may_publish_by_the_rules() -> None:
    desk = Desk(TopicRule("orders/#", retention_messages=5))
    answer = await routing(desk).route({"topic": "orders/1"})
    assert isinstance(answer, dict)
    assert [(row["role"], row["filter"], row["but"]) for row in answer["publishers"]] == [
        ("shop", "orders/#", ""),
        ("guest", "#", "orders/+"),
    ]
    assert (answer["rule"], answer["retention"]["messages"]) == ("orders/#", 5)
    answer = await routing(desk).route({"topic": "users/ann/x", "tenant": "acme"})
    assert isinstance(answer, dict)
    assert [row["role"] for row in answer["publishers"]] == ["guest", "user", "other"]
    answer = await routing(desk).route({"topic": "$dead/work"})
    assert isinstance(answer, dict)
    assert answer["publishers"] == []


@pytest.mark.parametrize(
    "parameters", [{}, {"topic": ""}, {"topic": "a/#"}, {"topic": "a", "tenant": "a b"}, {"topic": 1}]
)
async def test_route_of_what_is_no_topic_is_refused(parameters: dict[str, object]) -> None:
    with pytest.raises(BadCall):
        await routing(Desk()).route(parameters)
