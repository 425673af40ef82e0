"""Questions between nodes: each one ends, with an answer, a refusal or the end of patience; bugs cost one call."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast

import msgspec
import pytest
import trio
from trio.testing import MockClock
from triode_broker.cluster.calls import (
    ANSWER_SECONDS,
    BAD_CALL,
    MAX_RESULT_BYTES,
    MAX_RUNNING,
    BadQuestion,
    Calls,
    Method,
)
from triode_broker.cluster.frames import AnyFrame, Call, Reply
from triode_broker.cluster.link import Link
from triode_protocol.codec import Refused
from triode_protocol.errors import ErrorName

from tests.cluster.rig import Hand, Lines, Net, by_hand, identity, network


class Desk:
    """What the node that is asked does."""

    def __init__(self) -> None:
        self.log = Lines()
        self.running = 0
        self.may_end = trio.Event()
        self.methods: dict[str, Method] = {
            "double": self.double,
            "refuse": self.refuse,
            "fail": self.fail,
            "wait": self.wait,
            "much": self.much,
            "odd": self.odd,
        }

    async def double(self, parameters: Mapping[str, Any]) -> object:
        return {"twice": 2 * parameters["number"]}

    async def refuse(self, parameters: Mapping[str, Any]) -> object:
        if parameters.get("as") == "sentence":
            raise ValueError("there is no such name")
        raise Refused(ErrorName.CONFLICT, "somebody else has it")

    async def fail(self, parameters: Mapping[str, Any]) -> object:
        raise KeyError("a bug")

    async def wait(self, parameters: Mapping[str, Any]) -> object:
        self.running += 1
        await self.may_end.wait()
        return self.running

    async def much(self, parameters: Mapping[str, Any]) -> object:
        return "x" * parameters["size"]

    async def odd(self, parameters: Mapping[str, Any]) -> object:
        return object()


class Asking:
    """n2 has dialled n1 and asks it."""

    def __init__(self, net: Net, calls: Calls, desk: Desk, link: Link) -> None:
        self.net = net
        self.calls = calls
        self.desk = desk
        self.link = link

    async def ask(self, method: str, **parameters: Any) -> Any:
        return await self.calls.ask(self.link, method, parameters)

    async def refused(self, method: str, **parameters: Any) -> Refused:
        with pytest.raises(Refused) as caught:
            await self.ask(method, **parameters)
        return caught.value


def hear(calls: Calls, link: Link, frames: list[AnyFrame]) -> None:
    """What the cluster does with them."""
    for frame in frames:
        if isinstance(frame, Call):
            calls.called(link, frame)
        elif isinstance(frame, Reply):
            calls.replied(link, frame)


@asynccontextmanager
async def asking() -> AsyncIterator[Asking]:
    async with network() as net:
        desk = Desk()
        n1, n2 = await net.node("n1"), await net.node("n2", "n1")
        answers, questions = Calls(desk.methods, desk.log), Calls({}, Lines())
        for node, calls in ((n1, answers), (n2, questions)):
            node.story.hears.append(lambda link, frames, calls=calls: hear(calls, link, frames))  # type: ignore[misc]  # bound
            node.story.closes.append(lambda link, reason, calls=calls: calls.closed(link))  # type: ignore[misc]  # bound
        await net.nursery.start(answers.run)
        await n2.linked()
        yield Asking(net, questions, desk, n2.links.links[0])


async def test_a_question_is_answered(autojump_clock: MockClock) -> None:
    async with asking() as asker:
        assert await asker.ask("double", number=21) == {"twice": 42}
        assert asker.desk.log.lines == []


async def test_a_refusal_comes_as_one_with_its_words(autojump_clock: MockClock) -> None:
    async with asking() as asker:
        refused = await asker.refused("refuse")
        assert (refused.name, refused.message) == (ErrorName.CONFLICT, "somebody else has it")


@pytest.mark.parametrize(
    ("method", "parameters", "words"),
    [
        ("who", {}, "this node knows no such call"),
        ("refuse", {"as": "sentence"}, "there is no such name"),
    ],
)
async def test_a_question_that_is_none_is_told_so(
    method: str, parameters: dict[str, Any], words: str, autojump_clock: MockClock
) -> None:
    """An older node does not know a newer one's calls: who asks has to do without."""
    async with asking() as asker:
        with pytest.raises(BadQuestion, match=words):
            await asker.ask(method, **parameters)
        assert asker.desk.log.lines == []


@pytest.mark.parametrize("method", ["fail", "odd"])
async def test_a_bug_costs_one_call_and_is_logged_once(method: str, autojump_clock: MockClock) -> None:
    async with asking() as asker:
        refused = await asker.refused(method)
        assert (refused.name, refused.message) == (
            ErrorName.INTERNAL,
            "the call has failed; that node's log says why",
        )
        assert asker.desk.log.lines == [("error", "peer_call_failed", {"method": method})]
        assert await asker.ask("double", number=1) == {"twice": 2}


async def test_an_answer_that_is_too_large_says_so(autojump_clock: MockClock) -> None:
    async with asking() as asker:
        assert len(await asker.ask("much", size=MAX_RESULT_BYTES - 2)) == MAX_RESULT_BYTES - 2
        refused = await asker.refused("much", size=MAX_RESULT_BYTES - 1)
        assert refused.name == ErrorName.TOO_LARGE
        assert refused.message == f"the answer has {MAX_RESULT_BYTES + 1} bytes: ask for less"


async def test_patience_ends_and_a_late_answer_is_nobodys(autojump_clock: MockClock) -> None:
    async with asking() as asker:
        began = trio.current_time()
        refused = await asker.refused("wait")
        assert trio.current_time() - began == pytest.approx(ANSWER_SECONDS)
        assert (refused.name, refused.message) == (ErrorName.TIMEOUT, "node n1 has not answered")
        asker.desk.may_end.set()
        assert await asker.ask("double", number=1) == {"twice": 2}
        assert asker.calls._asked == {}


async def test_a_link_that_closes_ends_the_questions_on_it_at_once(autojump_clock: MockClock) -> None:
    async with asking() as asker:
        began = trio.current_time()
        refusals: list[Refused] = []

        async def ask() -> None:
            refusals.append(await asker.refused("wait"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            nursery.start_soon(ask)
            await trio.testing.wait_all_tasks_blocked()
            asker.link.close("superseded")
        refusals.append(await asker.refused("double", number=1))  # nobody will tell it of that any more
        assert [(one.name, one.message) for one in refusals] == [(ErrorName.UNAVAILABLE, "node n1 is gone")] * 3
        assert trio.current_time() == began


async def test_so_many_run_at_once_for_one_link_and_more_are_refused(autojump_clock: MockClock) -> None:
    async with asking() as asker:
        answers: list[Any] = []

        async def ask() -> None:
            answers.append(await asker.ask("wait"))

        async with trio.open_nursery() as nursery:
            for _ in range(MAX_RUNNING):
                nursery.start_soon(ask)
            await trio.testing.wait_all_tasks_blocked()
            refused = await asker.refused("double", number=1)
            assert (refused.name, refused.message) == (
                ErrorName.OVERLOADED,
                f"{MAX_RUNNING} calls of this node run already",
            )
            asker.desk.may_end.set()
        assert answers == [MAX_RUNNING] * MAX_RUNNING
        assert await asker.ask("double", number=1) == {"twice": 2}


async def test_a_node_that_does_not_answer_calls_yet_refuses_them(autojump_clock: MockClock) -> None:
    async with network() as net:
        node = await net.node("n1")
        calls = Calls(Desk().methods, Lines())
        node.story.hears.append(lambda link, frames: hear(calls, link, frames))
        async with by_hand(node, identity("n2")) as hand:
            await hand.send(Call(1, "double", b"{}"))
            (reply,) = await hand.receive()
            assert cast("Reply", reply).error == ErrorName.OVERLOADED


@asynccontextmanager
async def answered_by_hand() -> AsyncIterator[tuple[Calls, Link, Hand]]:
    """What the other node answers is the test's."""
    async with network() as net:
        node = await net.node("n1")
        calls = Calls({"double": Desk().double}, Lines())
        node.story.hears.append(lambda link, frames: hear(calls, link, frames))
        await net.nursery.start(calls.run)
        async with by_hand(node, identity("n2")) as hand:
            yield calls, node.links.links[0], hand


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (Reply(1, b'{"a":1}'), {"a": 1}),
        (Reply(1, b"null"), None),
        (Reply(1, b""), Refused(ErrorName.INTERNAL, "an answer that does not decode")),
        (Reply(1, b'{"a":'), Refused(ErrorName.INTERNAL, "an answer that does not decode")),
        (Reply(1, b"[" * 200_000), Refused(ErrorName.INTERNAL, "an answer that does not decode")),
        (Reply(1, b"1", ErrorName.UNAVAILABLE, "not now"), Refused(ErrorName.UNAVAILABLE, "not now")),
        (Reply(1, b"1", BAD_CALL, "nonsense"), BadQuestion("nonsense")),
        (Reply(1, b"1", "an_error_of_the_future", "new"), BadQuestion("new")),
    ],
    ids=["object", "null", "nothing", "half", "deep", "refused", "bad", "newer"],
)
async def test_whatever_comes_as_an_answer_ends_the_question(
    reply: Reply, expected: Any, autojump_clock: MockClock
) -> None:
    async with answered_by_hand() as (calls, link, hand):
        found: list[Any] = []

        async def ask() -> None:
            try:
                found.append(await calls.ask(link, "any", {"a": 1}))
            except (Refused, BadQuestion) as error:
                found.append(error)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            assert await hand.receive() == [Call(1, "any", b'{"a":1}')]
            await hand.send(Reply(2, b"0"), Reply(0, b"0"), reply, reply)  # others answer nothing of ours
        (one,) = found
        assert (type(one), str(one)) == (type(expected), str(expected))


@pytest.mark.parametrize("parameters", [b"", b"1", b"[]", b"{", b"\xff", b'{"a":' * 100_000])
async def test_parameters_that_are_no_object_are_a_bad_call(parameters: bytes, autojump_clock: MockClock) -> None:
    async with answered_by_hand() as (_, _, hand):
        await hand.send(Call(7, "double", parameters))
        (reply,) = await hand.receive()
        assert isinstance(reply, Reply)
        assert (reply.id, reply.result, reply.error) == (7, b"", BAD_CALL)
        await hand.send(Call(8, "double", msgspec.json.encode({"number": 4})))
        assert await hand.receive() == [Reply(8, b'{"twice":8}')]


async def test_an_answer_on_another_link_is_not_the_ones(autojump_clock: MockClock) -> None:
    async with network() as net:
        node = await net.node("n1")
        calls = Calls({}, Lines())
        node.story.hears.append(lambda link, frames: hear(calls, link, frames))
        async with by_hand(node, identity("n2")) as asked, by_hand(node, identity("n3")) as other:
            link = node.link_to("n2")
            found: list[Any] = []

            async def ask() -> None:
                found.append(await calls.ask(link, "any", {}))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask)
                await asked.receive()
                await other.send(Reply(1, b'"forged"'))
                await node.story.until(lambda: node.story.frames)
                await asked.send(Reply(1, b'"true"'))
            assert found == ["true"]


async def test_all_are_asked_at_once_and_those_that_answered_are_told_in_order(
    autojump_clock: MockClock,
) -> None:
    async with network() as net:
        node = await net.node("n1")
        log = Lines()
        calls = Calls({}, log)
        node.story.hears.append(lambda link, frames: hear(calls, link, frames))
        async with (
            by_hand(node, identity("n2")) as n2,
            by_hand(node, identity("n3")),
            by_hand(node, identity("n4")) as n4,
            by_hand(node, identity("n5")) as n5,
        ):
            links = [node.link_to(name) for name in ("n2", "n3", "n4", "n5")]
            found: dict[str, Any] = {}
            began = trio.current_time()

            async def ask() -> None:
                found.update(await calls.ask_all(links, "any", {}))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask)
                for hand, answer in ((n5, b"5"), (n4, b""), (n2, b"2")):  # n3 says nothing
                    (call,) = await hand.receive()
                    await hand.send(Reply(cast("Call", call).id, answer))
            assert trio.current_time() - began == pytest.approx(ANSWER_SECONDS)
            assert list(found.items()) == [("n2", 2), ("n5", 5)]
            assert [line["node"] for line in log.of("peer_call_failed")] == ["n4", "n3"]


async def test_a_caller_that_leaves_leaves_nothing_behind(autojump_clock: MockClock) -> None:
    async with asking() as asker:
        with trio.move_on_after(0.5):
            await asker.ask("wait")
        assert asker.calls._asked == {}
        asker.link.close("superseded")
        asker.desk.may_end.set()
        await trio.testing.wait_all_tasks_blocked()
        assert asker.desk.log.lines == []
