"""Calls: questions to another node by name, for what is asked seldom: by operators, about presence, the cluster.

Knows trio and frames, nothing of what the methods do; their table is given. Parameters and results are JSON. Every
question ends: with an answer, with what the other node refused it with, or with `timeout` or `unavailable`.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

import msgspec
import trio
from triode_protocol.codec import Refused
from triode_protocol.errors import ErrorName

from triode_broker.cluster.frames import Call, Reply
from triode_broker.cluster.link import Link

#: Longest wait for an answer that needs no disk.
ANSWER_SECONDS: Final = 2.0
#: Questions of one link that are worked on; more are refused.
MAX_RUNNING: Final = 32
#: Of one result; a link's message has to take it.
MAX_RESULT_BYTES: Final = 2_097_152
#: `Reply.error` where the question itself is at fault, not the state of things.
BAD_CALL: Final = "bad_call"

Method = Callable[[Mapping[str, Any]], Awaitable[object]]


class BadQuestion(Exception):
    """The other node says that the question cannot be one."""


class Calls:
    """Both sides of it: `methods` are what others may ask here."""

    def __init__(self, methods: Mapping[str, Method], log: Any) -> None:
        self.methods = dict(methods)
        self._log = log
        self._nursery: trio.Nursery | None = None
        self._last_id = 0
        self._asked: dict[int, tuple[Link, trio.Event, list[Reply]]] = {}
        self._running: dict[Link, int] = {}

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Answer until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            await trio.sleep_forever()

    # Asking

    async def ask(
        self, link: Link, method: str, parameters: Mapping[str, Any], seconds: float = ANSWER_SECONDS
    ) -> Any:
        """What the node at the other end answers. Raises Refused, or BadQuestion."""
        self._last_id += 1
        id, answered, replies = self._last_id, trio.Event(), list[Reply]()
        self._asked[id] = (link, answered, replies)
        try:
            link.put(Call(id, method, msgspec.json.encode(parameters)))
            if not link.is_open:
                answered.set()  # nothing comes on it: `closed` was told already
            with trio.move_on_after(seconds):
                await answered.wait()
        finally:
            del self._asked[id]
        if not replies:
            is_gone = not link.is_open
            name = ErrorName.UNAVAILABLE if is_gone else ErrorName.TIMEOUT
            raise Refused(name, f"node {link.peer.node} {'is gone' if is_gone else 'has not answered'}")
        return _result(replies[0])

    async def ask_all(
        self, links: Sequence[Link], method: str, parameters: Mapping[str, Any], seconds: float = ANSWER_SECONDS
    ) -> dict[str, Any]:
        """The answers by node, of those that gave one in time."""
        answers: dict[str, Any] = {}

        async def ask_one(link: Link) -> None:
            try:
                answers[link.peer.node] = await self.ask(link, method, parameters, seconds)
            except (Refused, BadQuestion) as error:
                self._log.info("peer_call_failed", node=link.peer.node, method=method, reason=str(error))

        async with trio.open_nursery() as nursery:
            for link in links:
                nursery.start_soon(ask_one, link)
        return {link.peer.node: answers[link.peer.node] for link in links if link.peer.node in answers}

    def replied(self, link: Link, frame: Reply) -> None:
        """An answer; one that is too late is nobody's."""
        asked = self._asked.get(frame.id)
        if asked is not None and asked[0] is link:
            asked[2].append(frame)
            asked[1].set()

    def closed(self, link: Link) -> None:
        """No answer comes on it any more."""
        for other, answered, _ in self._asked.values():
            if other is link:
                answered.set()
        self._running.pop(link, None)

    # Answering

    def called(self, link: Link, frame: Call) -> None:
        """Somebody asks."""
        running = self._running.get(link, 0)
        method = self.methods.get(frame.method)
        if method is None:
            link.put(Reply(frame.id, b"", BAD_CALL, "this node knows no such call"))
        elif self._nursery is None or running >= MAX_RUNNING:
            link.put(Reply(frame.id, b"", ErrorName.OVERLOADED, f"{running} calls of this node run already"))
        else:
            self._running[link] = running + 1
            self._nursery.start_soon(self._answer, link, frame, method)

    async def _answer(self, link: Link, frame: Call, method: Method) -> None:
        """Behind a barrier of its own: it costs nobody else anything."""
        try:
            link.put(await self._work(frame, method))
        finally:
            if link in self._running:
                self._running[link] -= 1

    async def _work(self, frame: Call, method: Method) -> Reply:
        try:
            parameters = msgspec.json.decode(frame.params, type=dict[str, Any])
            result = msgspec.json.encode(await method(parameters))
        except Refused as refused:
            return Reply(frame.id, b"", refused.name, refused.message)
        except (msgspec.MsgspecError, RecursionError, ValueError) as error:
            return Reply(frame.id, b"", BAD_CALL, str(error))
        except Exception:  # noqa: BLE001  # a bug: logged once, and told as one
            self._log.exception("peer_call_failed", method=frame.method)
            return Reply(frame.id, b"", ErrorName.INTERNAL, "the call has failed; that node's log says why")
        if len(result) > MAX_RESULT_BYTES:
            return Reply(frame.id, b"", ErrorName.TOO_LARGE, f"the answer has {len(result)} bytes: ask for less")
        return Reply(frame.id, result)


def _result(reply: Reply) -> Any:
    if not reply.error:
        try:
            return msgspec.json.decode(reply.result)
        except (msgspec.MsgspecError, RecursionError):
            raise Refused(ErrorName.INTERNAL, "an answer that does not decode") from None
    if reply.error == BAD_CALL or reply.error not in set(ErrorName):
        raise BadQuestion(reply.message)
    raise Refused(ErrorName(reply.error), reply.message)
