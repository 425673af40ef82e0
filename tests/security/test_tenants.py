"""S23: tenants never meet, though all of their names are the same.

The matrix is played by each tenant alone and by two at once. What the first one hears must be the same to the last
field, but for the numbers of logs that both write to (docs/tenants.md says which these are).
"""

import json
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from triode_broker.config import Limits
from triode_broker.core.tenancy import Counts

from tests.core.desk import Packet
from tests.security.neighbours import Clients, OneNode, TwoNodes, World, masked

MakeWorld = Callable[..., World]
WORLDS: dict[str, MakeWorld] = {
    "memory": OneNode,
    "disk": partial(OneNode, durable=True),
    "cluster": TwoNodes,
}


@pytest.fixture(params=WORLDS)
def make_world(request: pytest.FixtureRequest) -> MakeWorld:
    """A broker of each kind."""
    return WORLDS[request.param]


def chat(us: Clients) -> Iterator[None]:
    """Messages, wildcards, ids, history."""
    us.connect(1)
    us.connect(2)
    us.say(1, type="subscribe", id=2, sub=1, filter="#")
    yield
    us.say(2, type="subscribe", id=2, sub=1, filter="+/chat", overflow="conflate")
    us.say(2, type="publish", id=3, topic="rooms/chat", data=us.mark, message_id="m1", key="k")
    yield
    us.say(2, type="publish", id=4, topic="rooms/chat", data=us.mark, message_id="m1", key="k")
    us.say(1, type="publish", id=5, topic="rooms/chat", data=[us.mark], message_id="m1")
    yield
    us.say(1, type="publish", id=6, topic="rooms/chat", data=us.mark, headers={"of": us.mark})
    us.say(1, type="publish", id=7, topic="rooms/later", data=us.mark, ttl_ms=60_000)
    yield
    us.say(1, type="history", id=8, topic="rooms/chat")
    us.say(1, type="history", id=9, topic="rooms/later", last=1)
    us.say(1, type="history", id=10, topic="rooms/nowhere")
    us.say(1, type="subscribe", id=11, sub=2, filter="rooms/chat", from_="earliest")
    yield
    us.say(1, type="subscribe", id=12, sub=3, filter="rooms/#", from_="last")
    us.say(1, type="subscribe", id=13, sub=4, filter="rooms/chat", after={"x-y": 3})
    us.say(1, type="unsubscribe", id=14, sub=1)


def presence(us: Clients) -> Iterator[None]:
    """Who is where, who came and went, wills, and taking a connection's place."""
    us.connect(1)
    first = us.connect(2, will={"topic": "rooms/wills", "data": us.mark})
    us.say(1, type="subscribe", id=2, sub=1, filter="rooms/#", presence="watch")
    yield
    us.say(2, type="subscribe", id=2, sub=1, filter="rooms/chat", presence={"state": us.mark})
    yield
    us.say(1, type="presence", id=3, topic="rooms/chat")
    us.say(1, type="presence", id=4, topic="rooms/nobody")
    yield
    us.lose(2)
    us.connect(2, replaces=first, will={"topic": "rooms/wills", "data": us.mark, "delay_ms": 100})
    us.say(2, type="subscribe", id=2, sub=1, filter="rooms/chat", presence={"state": us.mark})
    yield
    us.say(1, type="presence", id=5, topic="rooms/chat")
    us.lose(2)
    yield
    us.world.wait(400)
    us.hear()
    yield
    us.world.wait(2_000)
    us.hear()
    us.say(1, type="presence", id=6, topic="rooms/chat")
    us.say(1, type="history", id=7, topic="rooms/wills")


def jobs(us: Clients) -> Iterator[None]:
    """Names, what is in flight under them, dead letters, conflicts."""
    us.connect(1)
    us.connect(2)
    us.say(1, type="subscribe", id=2, sub=1, filter="jobs/#", group="worker", max_attempts=3, from_="earliest")
    us.say(2, type="subscribe", id=2, sub=1, filter="$dead/#")
    us.say(2, type="subscribe", id=3, sub=2, filter="$dead/worker", from_="earliest")
    yield
    us.say(2, type="publish", id=4, topic="jobs/1", data=us.mark, key="k")
    us.say(2, type="publish", id=5, topic="jobs/2", data=us.mark)
    yield
    for delivery in us.told(1, "delivery")[:1]:
        place = {"log": delivery["message"]["log"], "pos": delivery["message"]["pos"]}
        us.say(1, type="nack", id=6, sub=1, **place, attempt=delivery["attempt"], reject=True)
    yield
    us.say(1, type="ack", id=7, sub=1, position={"x-y": 1})
    us.say(2, type="history", id=8, topic="$dead/worker")
    us.say(2, type="subscribe", id=9, sub=3, filter="jobs/+", group="worker")
    us.say(2, type="subscribe", id=10, sub=4, filter="jobs/#", group="worker")
    yield
    us.say(1, type="unsubscribe", id=11, sub=1)
    us.lose(1)
    us.say(2, type="subscribe", id=12, sub=5, filter="#", group="#")
    us.say(2, type="subscribe", id=13, sub=6, filter="jobs/#", durable="tail", from_="earliest")
    yield
    us.say(2, type="subscribe", id=14, sub=7, filter="jobs/1", durable="tail")
    us.say(2, type="unsubscribe", id=15, sub=6)


MATRIX = {"chat": chat, "presence": presence, "jobs": jobs}
#: What is heard at least, so that the matrix is not about nothing.
HEARD = {
    "chat": {"message", "published", "error", "history", "subscribed", "unsubscribed", "gap"},
    "presence": {"joined", "left", "presence", "history"},
    "jobs": {"delivery", "published", "error", "history", "message"},
}


def play(world: World, *parts: Iterator[None]) -> None:
    """Step by step, by turns, to the end of all."""
    going = list(parts)
    while going:
        for part in list(going):
            if next(part, going) is going:
                going.remove(part)
    world.settle()


@pytest.mark.parametrize("tenants", [("", "acme"), ("acme", ""), ("acme", "acme2"), ("acme2", "acme")])
@pytest.mark.parametrize("part", MATRIX)
def test_what_a_tenant_hears_is_what_it_hears_alone(
    make_world: MakeWorld, part: str, tenants: tuple[str, str]
) -> None:
    """S23, SPEC 6.6: messages, presence, history, ids, letters, wills, names and errors, whoever moves first."""
    transcripts = []
    for tenant in tenants:
        world = make_world()
        us = Clients(world, tenant, "ours")
        play(world, MATRIX[part](us))
        transcripts.append(us.heard)
    world = make_world()
    first, second = Clients(world, tenants[0], "ours"), Clients(world, tenants[1], "theirs")
    play(world, MATRIX[part](first), MATRIX[part](second))
    assert masked(list(map(list, first.heard))) == masked(list(map(list, transcripts[0])))
    heard = json.dumps(masked(list(map(list, second.heard)))).replace("theirs", "ours")
    assert json.loads(heard) == masked(list(map(list, transcripts[1])))
    assert "theirs" not in json.dumps(first.heard)
    assert "ours" not in json.dumps(second.heard)
    for known in ("$t:", "$dead:", "acme"):
        assert known not in json.dumps(first.heard)
    assert {packet["type"] for packet in first.told()} >= HEARD[part]
    if part == "presence":
        assert [one["data"] for one in first.told(1, "history")[0]["messages"]] == ["ours"]


HOSTILE = [
    *("$t:acme", "$t:acme/#", "$t:acme/rooms/chat", "$t:acme/+/chat", "$dead:acme/#", "$dead:acme/worker"),
    *("$t", "$t/#", "$t/+", "$:acme/rooms", "$t:", "$t:acme/$t:acme/#", "$acme:worker", "$dead:/worker"),
]


@pytest.mark.parametrize("tenant", ["", "other", "acme"])
@pytest.mark.parametrize("text", HOSTILE)
def test_names_of_the_inside_open_nothing(tenant: str, text: str) -> None:
    """S23, SPEC 6.5: whatever a client says is of its own tenant, or no topic."""
    world = OneNode()
    acme, them = Clients(world, "acme", "ours"), Clients(world, tenant, "theirs")
    acme.connect(1)
    acme.say(1, type="publish", id=2, topic="rooms/chat", data="ours")
    acme.say(1, type="subscribe", id=3, sub=1, filter="#")
    acme.say(1, type="subscribe", id=4, sub=2, filter="rooms/chat", presence={"state": "ours"})
    them.connect(1)
    before = len(acme.heard)
    is_topic = "+" not in text and "#" not in text
    asked: list[Packet] = [
        {"type": "subscribe", "sub": 1, "filter": text},
        {"type": "subscribe", "sub": 2, "filter": text, "from": "earliest"},
        {"type": "subscribe", "sub": 3, "filter": text, "group": "g"},
        {"type": "subscribe", "sub": 4, "filter": text, "presence": "watch"},
        {"type": "publish", "topic": text, "data": "theirs"},
        {"type": "history", "topic": text},
        {"type": "presence", "topic": text},
    ]
    for serial, packet in enumerate(asked, start=10):
        (error,) = them.say(1, id=serial, **packet)
        assert (error["type"], error["name"]) == ("error", "bad_topic"), packet
    (error,) = them.say(1, type="subscribe", id=20, sub=9, filter="a/#", group=text)
    assert (error["type"], error["name"]) == ("error", "malformed")
    them.connect(2, will={"topic": text, "data": "theirs"})
    assert [packet["name"] for packet in them.told(2, "error")] == ["bad_topic"]
    acme.say(1, type="publish", id=5, topic="rooms/chat", data="ours")
    assert "ours" not in json.dumps(them.heard)
    assert [packet["type"] for _, packet in acme.heard[before:]] == ["message", "published"]
    assert is_topic or not any(packet.get("field") == "topic" for packet in them.told(1, "subscribed"))


def test_reserved_topics_of_a_tenant_are_its_own(make_world: MakeWorld) -> None:
    """S23, SPEC 6.5: subscribed to, and nobody publishes there."""
    world = make_world()
    for tenant in ("", "acme", "dead"):
        us = Clients(world, tenant, "ours")
        us.connect(1)
        (subscribed,) = us.say(1, type="subscribe", id=2, sub=1, filter="$sys/x")
        assert subscribed["type"] == "subscribed"
        (error,) = us.say(1, type="publish", id=3, topic="$sys/x", data=1)
        assert error["name"] == "bad_topic"


def test_connection_of_another_tenant_is_not_replaced(make_world: MakeWorld) -> None:
    """S23: not by who knows its id and calls himself the same; nor are its members and its will taken."""
    world = make_world()
    acme, them = Clients(world, "acme", "ours"), Clients(world, "", "theirs")
    target = acme.connect(1, will={"topic": "rooms/wills", "data": "ours", "delay_ms": 500})
    acme.connect(2)
    acme.say(2, type="subscribe", id=2, sub=1, filter="#", presence="watch")
    acme.say(1, type="subscribe", id=2, sub=1, filter="rooms/chat", presence={"state": "ours"})
    them.connect(1, replaces=target)
    them.connect(2, replaces=target)
    acme.hear()
    assert acme.lines[1].closed_with != 4005
    acme.lose(1)
    them.connect(3, replaces=target)
    them.connect(4, replaces=target)
    them.say(3, type="subscribe", id=2, sub=1, filter="rooms/chat", presence={"state": "theirs"})
    world.wait(2_000)
    acme.hear()
    assert [packet["type"] for packet in acme.told(2)[2:]] == ["joined", "message", "left"]
    assert acme.told(2)[3]["data"] == "ours"
    assert "ours" not in json.dumps(them.heard)


def test_client_of_the_same_tenant_takes_its_place(make_world: MakeWorld) -> None:
    """The counterpart: another user does not, the same one does, from another node too."""
    world = make_world()
    acme = Clients(world, "acme", "ours")
    target = acme.connect(1)
    eve = world.dial(2)
    eve.send({"type": "connect", "id": 1, "token": "acme eve", "replaces": target})
    acme.hear()
    assert acme.lines[1].closed_with != 4005
    acme.connect(2, replaces=target)
    acme.hear()
    assert acme.lines[1].closed_with == 4005


def test_limits_of_a_topic_are_each_tenants_own(make_world: MakeWorld) -> None:
    """S23: what one has used up is there for the other; its error says nothing of that."""
    world = make_world(Limits(max_presence_members=1))
    acme, them = Clients(world, "acme", "ours"), Clients(world, "", "theirs")
    for us in (acme, them):
        us.connect(1)
    wish = {"type": "subscribe", "filter": "rooms/chat", "presence": {"state": 1}}
    assert acme.say(1, id=2, sub=1, **wish)[0]["type"] == "subscribed"
    assert them.say(1, id=2, sub=1, **wish)[0]["type"] == "subscribed"


def test_counts_are_each_tenants_own(make_world: MakeWorld) -> None:
    """S23, item 5: what is counted for a tenant is what its clients did."""
    world = make_world()
    acme, them = Clients(world, "acme", "ours"), Clients(world, "", "theirs")
    acme.connect(1)
    acme.say(1, type="subscribe", id=2, sub=1, filter="#")
    acme.say(1, type="subscribe", id=3, sub=2, filter="rooms/chat")
    acme.say(1, type="publish", id=4, topic="rooms/chat", data=1)
    acme.say(1, type="publish", id=5, topic="$sys", data=1)
    acme.say(1, type="subscribe", id=6, sub=3, filter="jobs/#", group="worker")
    acme.say(1, type="publish", id=7, topic="jobs/1", data=1)
    them.connect(1)
    them.connect(2)
    them.say(2, type="publish", id=2, topic="rooms/chat", data=1)

    def counts(tenant: str) -> Counts:
        found = Counts()
        for node in world.nodes:
            found.add(node.router.tenants.rows().get(tenant, Counts()))
        found.received_bytes = 0
        return found

    assert counts("acme") == Counts(connections=1, subscriptions=3, publishes=3, delivered=3, refused=1)
    assert counts("") == Counts(connections=2, publishes=1)
    acme.say(1, type="unsubscribe", id=8, sub=2)
    assert counts("acme").subscriptions == 2
    acme.say(1, type="unsubscribe", id=9, sub=3)
    assert counts("acme").subscriptions == 1
    acme.lose(1)
    them.lose(2)
    assert (counts("acme").connections, counts("acme").subscriptions, counts("").connections) == (0, 0, 1)


def test_bytes_are_those_of_packets() -> None:
    """As UTF-8, from `connected` on."""
    world = OneNode()
    us = Clients(world, "acme", "ours")
    us.connect(1)
    us.lines[1].send_text('{"type":"ping"}')
    us.lines[1].send_text('[{"type":"ping"},{"type":"é"}]')
    assert world.desk.router.tenants.rows()["acme"].received_bytes == 15 + 31


def test_what_was_acknowledged_is_still_its_tenants_after_a_restart() -> None:
    """S23: topics, names, dead letters, ids and delayed messages on disk."""
    world = OneNode(durable=True)
    acme, them = Clients(world, "acme", "ours"), Clients(world, "", "theirs")
    for us in (acme, them):
        us.connect(1)
        us.say(1, type="subscribe", id=2, sub=1, filter="jobs/#", durable="worker")
        us.say(1, type="publish", id=3, topic="jobs/1", data=us.mark, message_id="m")
        us.say(1, type="publish", id=4, topic="jobs/2", data=us.mark, deliver_at_ms=world.desk.now_ms + 5_000)
        message = us.told(1, "delivery")[0]["message"]
        place = {"log": message["log"], "pos": message["pos"], "attempt": 1}
        us.say(1, type="nack", id=5, sub=1, **place, reject=True)
        us.lose(1)
    world.restart()
    for us in (acme, them):
        us.heard.clear()
        us.connect(1)
        us.say(1, type="subscribe", id=2, sub=1, filter="jobs/#", durable="worker")
        us.say(1, type="subscribe", id=3, sub=2, filter="jobs/#", from_="earliest")
        us.say(1, type="subscribe", id=4, sub=3, filter="$dead/#", from_="earliest")
        us.say(1, type="publish", id=5, topic="jobs/1", data=us.mark, message_id="m")
        us.say(1, type="publish", id=6, topic="jobs/1", data=[us.mark], message_id="m")
    world.wait(6_000)
    world.desk.router.tick(world.desk.now_ms)
    for us, other in ((acme, them), (them, acme)):
        us.hear()
        messages = [one["message"] for one in us.told(1, "delivery")]
        assert [(one["topic"], one["data"], one["offset"]) for one in messages if one["topic"][0] != "$"] == [
            ("jobs/1", us.mark, 1),
            ("jobs/2", us.mark, 1),
        ]
        (letter,) = [one for one in messages if one["topic"][0] == "$"]
        assert (letter["topic"], letter["headers"]["triode-dead-topic"]) == ("$dead/worker", "jobs/1")
        (duplicate,) = us.told(1, "published")
        assert (duplicate["duplicate"], us.told(1, "error")[0]["name"]) == (True, "conflict")
        assert other.mark not in json.dumps(us.heard)


def test_tenant_that_is_none_is_let_in_by_nobody() -> None:
    """S23: the door's last look; an authority has refused such a credential before."""
    world = OneNode()
    us = Clients(world, "a/b", "ours")
    with pytest.raises(ValueError, match="not the name of a tenant"):
        us.connect(1)
    assert not world.desk.node.sessions
