"""Requests: what a client asks once and is answered once, maybe later: a topic's past, and who is on it.

Knows the session as who asks. The surprising decision: rights are looked at twice. An answer may come long after
its question, from a disk or from other nodes, and by then the rules in force may be others (G10).
"""

from typing import TYPE_CHECKING

from msgspec import Raw
from triode_protocol.codec import Refused
from triode_protocol.errors import ErrorName
from triode_protocol.packets import History, HistoryRequest, Presence, PresenceRequest, ServerPacket

from triode_broker.core.asking import MAX_HISTORIES, check_questions
from triode_broker.core.awaiting import RETRY_STORE_MS
from triode_broker.core.door import check_topic
from triode_broker.core.history import answer_history, check_history
from triode_broker.core.node import Node
from triode_broker.core.outbox import Outbox
from triode_broker.core.presence import fitting
from triode_broker.core.rights import Action
from triode_broker.core.tenants import inside

if TYPE_CHECKING:
    from triode_broker.core.session import Session


def ask_history(session: "Session", node: Node, packet: HistoryRequest, now_ms: int) -> None:
    """SPEC 3.5. Raises Refused."""
    own = packet.topic
    node.router.check_readable(own)
    check_topic(session.identity.rights, "history", own)
    check_history(packet)
    check_questions(session.histories, MAX_HISTORIES)
    packet.topic = inside(session.identity.tenant, own)
    shard = node.router.covered(packet.topic)[0]
    if not shard.is_reachable:
        message = f"the owner of shard {shard.name} is not reached"
        raise Refused(ErrorName.UNAVAILABLE, message, retry_after_ms=RETRY_STORE_MS)
    session.histories += 1

    def answer(history: History) -> None:
        session.histories -= 1
        _answer(session, "history", own, history, packet.id)

    answer_history(shard.log, packet, node.limits, shard.clock(now_ms), answer, session.histories)


def ask_presence(session: "Session", node: Node, outbox: Outbox, packet: PresenceRequest) -> None:
    """SPEC 10.4. Raises Refused."""
    own = packet.topic
    node.router.check_topic(own)
    check_topic(session.identity.rights, "presence", own)
    check_questions(session.histories, MAX_HISTORIES)
    session.histories += 1
    topic = inside(session.identity.tenant, own)

    def answer(members: list[bytes], is_complete: bool) -> None:
        session.histories -= 1
        node.presence.answered(outbox, topic)
        told = fitting(members, node.limits.max_frame_bytes)
        complete = is_complete and len(told) == len(members)
        _answer(session, "presence", own, Presence(own, list(map(Raw, told)), complete, packet.id), packet.id)

    node.presence.ask(topic, answer)


def _answer(session: "Session", action: Action, topic: str, answer: ServerPacket, id: int) -> None:
    try:
        check_topic(session.identity.rights, action, topic)
    except Refused as refused:
        session.refuse(refused, id)
    else:
        session.answer(answer)
