"""Tracing between nodes: who traces a message has the others look out for it, and hears what they have seen.

Pure. Knows links and `core.observing`. The surprising decision: calls that nobody waits for, put on a link before
the publish is. Links keep their order, so the owner looks out before it has the message; another node that gets it
sooner than the word to look out tells what it finds then. A node of a build without this answers that it knows no
such call, and is told of as one that did not answer: no version of the protocol is needed.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Final, Literal

import attrs
import msgspec
from msgspec import Meta, Struct
from triode_protocol.hops import Hop

from triode_broker.cluster.frames import Call, Entry
from triode_broker.cluster.link import Link
from triode_broker.cluster.usage import NO_ANSWER
from triode_broker.core.observing import Observation
from triode_broker.core.shard import Shard, shard_of_log
from triode_broker.core.tracing import MAX_HOPS, MAX_TRACES, Take, Tracing

TRACE: Final = "trace"


class Said(Struct, omit_defaults=True):
    """What one node says to another about one trace, which is named by the node that it began on."""

    do: Literal["watch", "look_for", "forget", "told"]
    trace: Annotated[str, Meta(max_length=255)]
    topic: Annotated[str, Meta(max_length=2_048)] = ""
    log: str = ""
    pos: int = 0
    hops: Annotated[list[Hop], Meta(max_length=MAX_HOPS)] = []
    is_over: bool = False


_decoder: Final = msgspec.json.Decoder(Said)


@attrs.frozen
class _Asked:
    """One trace of this node's, and whom it has asked."""

    take: Take
    links: dict[str, Link]


class FarTracing:
    """One node's side of it, towards all the others: `core.tracing.Elsewhere`."""

    def __init__(
        self, tracing: Tracing, owner_of: Callable[[str], Entry | None], links: Callable[[], Sequence[Link]]
    ) -> None:
        """`owner_of`: a shard, by its name. `links`: one to each node that is reached."""
        self._tracing = tracing
        self._owner_of = owner_of
        self._links = links
        self._asked: dict[str, _Asked] = {}
        self._watched: dict[Link, dict[str, Observation]] = {}

    # Asking

    def owner_of(self, shard: Shard) -> str:
        """See `core.tracing.Elsewhere`."""
        entry = self._owner_of(shard.name)
        return entry.node if entry is not None else ""

    def watch(self, trace: str, topic: str, take: Take) -> Sequence[str]:
        """See `core.tracing.Elsewhere`."""
        links = {link.peer.node: link for link in self._links() if not link.is_full}
        if links:
            self._asked[trace] = _Asked(take, links)
            self._say(links.values(), Said("watch", trace, topic=topic))
        return list(links)

    def look_for(self, trace: str, log: str, pos: int) -> None:
        """See `core.tracing.Elsewhere`."""
        if (asked := self._asked.get(trace)) is not None:
            self._say(asked.links.values(), Said("look_for", trace, log=log, pos=pos))

    def forget(self, trace: str) -> None:
        """See `core.tracing.Elsewhere`."""
        if (asked := self._asked.pop(trace, None)) is not None:
            self._say(asked.links.values(), Said("forget", trace))

    # Hearing

    def called(self, link: Link, frame: Call) -> None:
        """Another node asks, or tells. Raises msgspec.MsgspecError."""
        said = _decoder.decode(frame.params)
        if said.do == "told":
            self._told(link, said)
        elif said.do == "watch":
            self._watch(link, said)
        elif (observation := self._watched.get(link, {}).get(said.trace)) is not None:
            if said.do == "look_for":
                self._look_for(link, said, observation)
            else:
                observation.close()
                self._sweep(link)

    def _watch(self, link: Link, said: Said) -> None:
        self._sweep(link)
        watched = self._watched.setdefault(link, {})
        if len(watched) < MAX_TRACES and said.trace not in watched:
            watched[said.trace] = self._tracing.observe(said.topic)

    def _look_for(self, link: Link, said: Said, observation: Observation) -> None:
        def told(hops: Sequence[Hop], is_over: bool) -> None:
            if link.is_open:
                self._say([link], Said("told", said.trace, hops=list(hops)[:MAX_HOPS], is_over=is_over))

        shard = self._tracing.router.shard_named(shard_of_log(said.log))
        if shard is not None and shard.is_here:
            told(observation.placed(said.log, said.pos, shard.log.level), False)
        observation.look_for(said.log, said.pos, told)

    def _sweep(self, link: Link) -> None:
        watched = self._watched.get(link, {})
        for trace in [trace for trace, observation in watched.items() if observation.is_over]:
            del watched[trace]

    def _told(self, link: Link, said: Said) -> None:
        asked = self._asked.get(said.trace)
        if asked is not None and link.peer.node in asked.links:
            asked.take(link.peer.node, said.hops, said.is_over)

    @property
    def watched(self) -> int:
        """Messages that others have this node look out for, as last swept."""
        return sum(not one.is_over for watched in self._watched.values() for one in watched.values())

    def closed(self, link: Link) -> None:
        """Nothing comes from there any more, and nobody there wants to know."""
        for observation in self._watched.pop(link, {}).values():
            observation.close()
        for asked in list(self._asked.values()):
            if asked.links.get(link.peer.node) is link:
                del asked.links[link.peer.node]
                asked.take(link.peer.node, None, True)

    @staticmethod
    def _say(links: Iterable[Link], said: Said) -> None:
        params = msgspec.json.encode(said)
        for link in links:
            link.put(Call(NO_ANSWER, TRACE, params))
