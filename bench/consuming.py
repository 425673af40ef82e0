"""Members of one durable shared subscription that confirm what they are given: from a backlog, or as it comes.

What it must not know: how servers are started, what is reported.
The surprising decision: a window ends with deliveries in every member's hands, not confirmed; the next one begins
by confirming them. So a backlog can be taken in slices, and each slice has as many acknowledgements as deliveries.
"""

import re
import time
from collections import Counter

from bench.frames import client_frame, skim, split
from bench.ledger import Once
from bench.load import LoadError, note, open_connections, overhear, request
from bench.pacing import Publishers
from bench.packets import greeting, packet, publish_frame
from bench.sockets import Connection, Loop
from bench.speakers import Address, TriodeSpeaker
from bench.workloads import turn_for, turn_while

_DELIVERY = re.compile(rb'"log":"([a-z0-9-]+)","pos":(\d+)')
_FIRST_ATTEMPT = b'"attempt":1,'
_FIRST_ATTEMPT_LAST = b'"attempt":1}'
_POS = re.compile(rb'"pos":(\d+)')
_ACK_WAIT_MS = 600_000  # what is held between two windows must not come again
_MOST_IN_A_LIST = 1_024
_SILENCE_SECONDS = 0.2


class Stored:
    """Messages on topics of one prefix, and how many there are."""

    def __init__(self, loop: Loop, address: Address, prefix: str) -> None:
        self.filter = f"{prefix}/#"
        self.publishers = Publishers(loop, address, speaker=TriodeSpeaker(prefix))
        # Each publisher has asked for its first offset with a message.
        self._others = len(self.publishers.ledgers)
        self._loop = loop
        [self._asker] = open_connections(loop, address, [greeting()], b'"connected"')
        self._topic = f"{prefix}/0"

    @property
    def count(self) -> int:
        return self.publishers.published + self._others

    def add_one(self) -> int:
        """Publish one more message, and return its pos."""
        answer = request(self._loop, self._asker, publish_frame(self._topic, 9), b'"published"')
        self._asker.take = overhear(self.publishers.notices)
        self._others += 1
        if (match := _POS.search(answer)) is None:
            raise LoadError(f"an acknowledgement without a place: {answer!r}")
        return int(match[1])


class Confirmed:
    """All that one durable name was given, whoever of its members got it."""

    def __init__(self, single: bool) -> None:
        self.single = single  # one acknowledgement a delivery, else a list for all that came together
        self.ledger = Once()
        self.notices: Counter[str] = Counter()
        self.open = False


class Member:
    """One connection: what it holds is confirmed at once, or when it is told to."""

    def __init__(self, connection: Connection, number: int, common: Confirmed) -> None:
        self.held: list[int] = []
        self.log = ""
        self.subscribed = False
        self.connection = connection
        self._number = number
        self._common = common
        connection.take = self.take

    def confirm(self) -> None:
        """Acknowledge all that is held."""
        held, self.held = self.held, []
        if not held:
            return
        if self._common.single:
            head = b'{"type":"ack","sub":1,"log":"%b","pos":' % self.log.encode()
            frames = [client_frame(b"%b%d}" % (head, pos)) for pos in held]
        else:
            lists = (held[at : at + _MOST_IN_A_LIST] for at in range(0, len(held), _MOST_IN_A_LIST))
            frames = [packet(kind="ack", sub=1, log=self.log, pos=positions) for positions in lists]
        self.connection.send(b"".join(frames))

    def leave(self, loop: Loop) -> None:
        """Confirm everything, hear that this is on disk, then give the subscription up."""
        self.confirm()
        if self.log:
            everything = packet(kind="ack", id=7, sub=1, log=self.log, upto=2**53 - 1)
            request(loop, self.connection, everything, b'"acked"')
        request(loop, self.connection, packet(kind="unsubscribe", id=8, sub=1), b'"unsubscribed"')

    def take(self, buffer: bytearray, end: int) -> int:
        used = self._take(buffer, end)
        if self._common.open:
            self.confirm()
        return used

    def _take(self, buffer: bytearray, end: int) -> int:
        found = skim(buffer, end)
        places = _DELIVERY.findall(buffer, 0, found.used)
        if found.unusual or not found.frames == len(places) == _firsts(buffer, found.used):
            return self._take_each(buffer, end)
        self._given(places)
        return found.used

    def _take_each(self, buffer: bytearray, end: int) -> int:
        used = 0
        for opcode, start, used in split(buffer, end):
            payload = buffer[start:used]
            places = _DELIVERY.findall(payload)
            if len(places) == 1 and payload.startswith(b'{"type":"delivery"'):
                self._given(places)
                if not _firsts(payload, len(payload)):
                    self._common.notices["delivered again"] += 1
            elif payload.startswith(b'{"type":"subscribed"'):
                self.subscribed = True
            else:
                note(self._common.notices, opcode, bytes(payload))
        return used

    def _given(self, places: list[tuple[bytes, bytes]]) -> None:
        if places:
            positions = [int(pos) for _, pos in places]
            self.log = places[-1][0].decode()
            self._common.ledger.take(self._number, positions)
            self.held += positions


def _firsts(buffer: bytearray, end: int) -> int:
    """How many deliveries say that they are the first attempt."""
    return buffer.count(_FIRST_ATTEMPT, 0, end) + buffer.count(_FIRST_ATTEMPT_LAST, 0, end)


class Consumers:
    """So many members of one name; what is stored already comes to them as they confirm."""

    def __init__(
        self,
        loop: Loop,
        address: Address,
        *,
        stored: Stored,
        name: str,
        members: int,
        single: bool,
        window: int = 256,
    ) -> None:
        self._loop = loop
        self._address = address
        self._name = name
        self._stored = stored
        self._window = window
        self._common = Confirmed(single)
        self.notices = self._common.notices
        self.latencies: list[int] = []
        self._members = self._attach(members)
        self.ledgers = [self._common.ledger]

    @property
    def finished(self) -> bool:
        """Everything there is was delivered."""
        return self._common.ledger.received >= self._stored.count

    def start(self) -> None:
        """Confirm what is held, and from now on what comes; `stop` ends it."""
        self._common.open = True
        for member in self._members:
            member.confirm()

    def stop(self) -> None:
        self._common.open = False

    def pump(self, seconds: float) -> None:
        """Take what there is for so long, then until every hand is full or nothing is left."""
        until = time.monotonic() + seconds
        self.start()
        turn_while(self._loop, lambda: not self.finished and time.monotonic() < until)
        self.stop()
        while not self.finished and any(len(member.held) < self._window for member in self._members):
            if not self._loop.turn(_SILENCE_SECONDS):
                break

    def close(self) -> None:
        """Take the rest, confirm everything, and see that the name is given nothing of it again."""
        self.pump(60.0)
        for member in self._members:
            member.leave(self._loop)
        [late] = self._attach(1)
        last = self._stored.add_one()
        turn_while(self._loop, lambda: last not in self._common.ledger.seen)
        late.leave(self._loop)
        self._common.ledger.close(self._stored.count)

    def _attach(self, members: int) -> list[Member]:
        subscribe = packet(
            kind="subscribe",
            id=2,
            sub=1,
            filter=self._stored.filter,
            durable=self._name,
            shared=True,
            window=self._window,
            ack_wait_ms=_ACK_WAIT_MS,
            **{"from": "earliest"},
        )
        connections = open_connections(self._loop, self._address, [greeting()] * members, b'"connected"')
        joined = [Member(one, index, self._common) for index, one in enumerate(connections)]
        for member in joined:
            member.connection.send(subscribe)  # only now: deliveries follow its answer at once
        turn_while(self._loop, lambda: not all(one.subscribed for one in joined) and not self.notices)
        if not all(member.subscribed for member in joined):
            raise LoadError(f"a member of {self._name} could not subscribe: {dict(self.notices)}")
        return joined


class Live:
    """Publishers at full load and members that confirm at once, on one server at one time."""

    def __init__(self, loop: Loop, address: Address, *, name: str, members: int) -> None:
        self._loop = loop
        self._stored = Stored(loop, address, f"bench/{name}")
        self._consumers = Consumers(loop, address, stored=self._stored, name=name, members=members, single=False)
        self.notices = self._consumers.notices
        self.latencies: list[int] = []
        self.ledgers = self._consumers.ledgers
        self.finished = False  # there is always more

    def pump(self, seconds: float) -> None:
        """Publish and consume for so long, then until everything is acknowledged and delivered."""
        publishers = self._stored.publishers
        self._consumers.start()
        publishers.start()
        turn_for(self._loop, seconds)
        publishers.stop()
        turn_while(self._loop, lambda: publishers.waiting or not self._consumers.finished)
        self._consumers.stop()

    def close(self) -> None:
        self._consumers.close()
        publishers = self._stored.publishers
        publishers.close()
        self.notices.update(publishers.notices)
        for one in publishers.ledgers:
            if one.lost or one.doubled or one.misordered:
                self.notices["a publisher's answers were not one for each publish, in order"] += 1
