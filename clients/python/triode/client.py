"""The client that programs hold, the same in all faces: what they may ask for, and the life of it all.

Knows the runtime and the session; the driver carries what they say to each other. The surprising decision: the
client's tasks are ended without the program's error, because trio would hand it back wrapped in a group.
"""

import random
import ssl
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from types import TracebackType
from typing import Literal, Self

import msgspec
from triode_protocol import packets
from triode_protocol.topics import HARD_MAX_BYTES, HARD_MAX_LEVELS, check_filter, check_topic

from triode.backoff import shown_url
from triode.composing import Composer, Draft, Encode
from triode.consuming import Terms
from triode.deliveries import Deliveries
from triode.driver import Driver, Token
from triode.errors import ConnectionClosed, ConnectionRefused, QueueFull, TriodeError
from triode.messages import Messages
from triode.options import Options
from triode.publishing import OnTrace, Publication, all_published
from triode.receipts import Receipt
from triode.records import Gap, HistoryPage, Position, Presence, Published, State, StateChanged
from triode.runtime import Runtime
from triode.session import Identity, Session
from triode.watching import Events
from triode.will import Will

#: Where a subscription begins; see `Client.subscribe`.
From = Literal["new", "earliest", "last"] | Mapping[Literal["last", "since"], int]


class Client:
    """A connection to a broker that lasts: made by `connect`, used inside its `async with`.

    Leaving the block sends what is queued (at most `close_timeout_seconds`) and says goodbye; leaving it by an
    exception or a cancellation closes at once. All methods belong to the thread that runs the loop; any number of
    tasks may publish, each subscription has one consumer.
    """

    def __init__(
        self,
        runtime: Runtime,
        url: str | Iterable[str],
        token: Token,
        name: str,
        wait_seconds: float,
        ssl_context: ssl.SSLContext | None,
        options: Options,
        will: Will | None = None,
        encode: Encode | None = None,
    ) -> None:
        self._runtime = runtime
        self._wait_seconds = wait_seconds
        self._composer = Composer(encode)
        identity = Identity(
            token=token if isinstance(token, str) else "",
            name=name or "triode-python",
            version=_installed_version(),
            is_renewable=not isinstance(token, str),
            will=msgspec.UNSET if will is None else will.packet(self._composer),
        )
        self._session = Session(url, identity, options, random.SystemRandom().random)
        self._driver = Driver(runtime, self._session, token, ssl_context)
        self._tasks = runtime.tasks()
        self._is_entered = False

    @property
    def state(self) -> State:
        """Of the connection: idle, connecting, connected, waiting, closed."""
        return self._session.state

    # The life of the client

    async def __aenter__(self) -> Self:
        if self._is_entered or self._session.state is State.CLOSED:
            raise RuntimeError("a client is entered once, and not after its end")
        self._is_entered = True
        await self._tasks.open()
        self._driver.start(self._tasks)
        try:
            await self._wait_connected()
        except BaseException:
            await self._close_at_once()
            raise
        return self

    async def _wait_connected(self) -> None:
        session = self._session
        reasons: dict[str, str] = {}  # by URL, the last one of each
        async with self._runtime.scope(self._runtime.now() + self._wait_seconds):
            watcher = self.events()
            while session.state not in (State.CONNECTED, State.CLOSED):
                event = await anext(watcher)
                if isinstance(event, StateChanged) and event.state is State.WAITING:
                    reasons[event.url] = event.reason
        if session.state is State.CLOSED:
            raise session.error or ConnectionClosed("the client was closed")
        if session.state is not State.CONNECTED and self._wait_seconds > 0:
            raise ConnectionRefused(f"not connected within {self._wait_seconds:g} s: {_in_words(reasons)}")

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if error is None:
                await self._finish()
                await self._tasks.join()  # they end by themselves
        finally:
            await self._close_at_once()  # does nothing where that went well

    async def aclose(self) -> None:
        """Send what is queued, say goodbye and close, as leaving the block does; it is to be left all the same.

        Any number of times, and from any task.
        """
        await self._finish()

    async def _finish(self) -> None:
        """Flush and say goodbye: all of it bounded by options."""
        if not self._session.is_finishing:
            self._session.finish(self._runtime.now())
        self._driver.settle()
        while self._session.state is not State.CLOSED:
            await self._driver.changes.park()

    async def _close_at_once(self) -> None:
        """For a program in trouble or cancelled."""
        self._session.close()
        self._driver.settle()
        self._tasks.cancel()
        await self._tasks.join()

    # Publishing

    async def publish(
        self,
        topic: str,
        data: object,
        *,
        key: str = "",
        headers: Mapping[str, str] | None = None,
        message_id: str = "",
        ttl_ms: int = 0,
        deliver_at: datetime | float | None = None,
        on_trace: OnTrace | None = None,
    ) -> Published:
        """Publish and wait until the broker has acknowledged: its place, and the level it has reached (G1).

        `data`: what JSON can say, bytes (sent as binary), or `msgspec.Raw` (JSON text as it stands). Without a
        connection it waits in a bounded queue, and after a lost one it is sent again with the same message id, so
        it is stored once. Messages of one task keep their order. `ttl_ms` 0: the topic's. `deliver_at`: when it is
        to be published, an aware datetime or seconds since 1970 (`time.time()`) by the broker's clock; it has no
        place until then (`delayed`).

        A broker that asks for patience (`overloaded`, `rate_limited`, `inflight`, `unavailable`) gets it: this
        takes longer, up to publish_expiry_seconds, and raises the refusal only then. What is about one topic's
        store holds up that topic, all else everything that this client publishes.

        `on_trace` is told what becomes of the message, on which node and when: see `Traced`.

        Raises PublishRefused (surely not stored), OutcomeUnknown (sent, unanswered for publish_expiry_seconds or
        past the broker's deduplication window), Expired (never sent in that time), QueueFull (only while not
        connected; else it waits for room), ConnectionClosed, BadTopic and ValueError for wrong arguments.

        Cancelled while unsent, it is never sent; cancelled later, it may be stored.
        """
        packet = self._composer.publish(
            topic,
            data,
            key=key,
            headers=headers,
            message_id=message_id,
            ttl_ms=ttl_ms,
            deliver_at=deliver_at,
            is_traced=on_trace is not None,
        )
        return await self._deliver(packet, on_trace)

    async def delete_key(self, topic: str, key: str, *, message_id: str = "") -> Published:
        """Delete `key` from a compacted topic: subscribers get a message with `deletes_key`, then it is gone.

        Waits and raises as `publish`; PublishRefused with `malformed` where the topic is not compacted.
        """
        packet = self._composer.deletion(topic, key, message_id)
        return await self._deliver(packet)

    async def _deliver(self, packet: packets.Publish, on_trace: OnTrace | None = None) -> Published:
        publication = await self._enqueue(packet, is_acknowledged=True)
        if on_trace is not None:
            self._session.publisher.trace(publication, on_trace)
        self._driver.queued(publication)
        receipt = Receipt(self._driver, publication)
        try:
            return await receipt.wait()
        finally:
            if not receipt.is_done:  # cancelled
                receipt.abandon()

    def publish_nowait(
        self,
        topic: str,
        data: object,
        *,
        key: str = "",
        headers: Mapping[str, str] | None = None,
        message_id: str = "",
        ttl_ms: int = 0,
        deliver_at: datetime | float | None = None,
        on_trace: OnTrace | None = None,
    ) -> Receipt:
        """Like `publish`, but returns at once: `await receipt.wait()` gives what publish would.

        Raises QueueFull, connected or not; a loop of these should wait for some of its receipts.
        """
        packet = self._composer.publish(
            topic,
            data,
            key=key,
            headers=headers,
            message_id=message_id,
            ttl_ms=ttl_ms,
            deliver_at=deliver_at,
            is_traced=on_trace is not None,
        )
        publication = self._session.publish(packet, self._runtime.now())
        if on_trace is not None:
            self._session.publisher.trace(publication, on_trace)
        self._driver.queued(publication)
        return Receipt(self._driver, publication)

    async def send(
        self,
        topic: str,
        data: object,
        *,
        key: str = "",
        headers: Mapping[str, str] | None = None,
        message_id: str = "",
        ttl_ms: int = 0,
        deliver_at: datetime | float | None = None,
    ) -> None:
        """Publish without acknowledgement: written once, lost with the connection that it was written to.

        Waits for room in the queue while connected, raises QueueFull otherwise. What the broker refuses, or what
        expires unsent, is an event (`Complaint`) and a logged warning. Lets others run every 64th time (receipts
        that are done count with it).
        """
        packet = self._composer.publish(
            topic,
            data,
            key=key,
            headers=headers,
            message_id=message_id,
            ttl_ms=ttl_ms,
            deliver_at=deliver_at,
        )
        await self._driver.breathe()
        self._driver.queued(await self._enqueue(packet, is_acknowledged=False))

    async def publish_many(self, messages: Iterable[tuple[str, object] | Draft]) -> list[Published]:
        """Publish all of these, each a topic and its data or a mapping with any argument of `publish`, and wait.

        They keep their order, leave together as far as the broker's window and the queue have room, and are
        checked before the first one is sent. Returns their places. Raises PublishManyFailed where some have
        none: once the queue is full while not connected, or the client closed, the rest are not tried; other
        failures are each its own. Wrong arguments as in `publish`. Cancelled, what is unsent is never sent.
        """
        waiting = [self._composer.several(message) for message in messages]
        await self._runtime.checkpoint()
        queued: list[Publication] = []
        try:
            error = await self._enqueue_all(waiting, queued)
            results = [await self._outcome(each) for each in queued]
        finally:  # cancelled, unless all of them have a result
            self._session.publisher.abandon(*(each for each in queued if each.result is None))
            self._driver.settle()
        if error is not None:
            results += [error] * (len(waiting) - len(queued))
        return all_published(results)

    async def _enqueue_all(
        self, waiting: list[packets.Publish], queued: list[Publication]
    ) -> QueueFull | ConnectionClosed | None:
        """Returns why it went no further."""
        try:
            for packet in waiting:
                queued.append(await self._enqueue(packet, is_acknowledged=True))  # noqa: PERF401  # some, or all
        except (QueueFull, ConnectionClosed) as error:
            return error
        finally:
            self._driver.settle()
        return None

    async def _outcome(self, publication: Publication) -> Published | TriodeError:
        if publication.result is None:
            publication.waiter = self._runtime.event()
            await publication.waiter.wait()
        assert publication.result is not None
        return publication.result

    async def _enqueue(self, packet: packets.Publish, *, is_acknowledged: bool) -> Publication:
        """Waits for room while connected. The caller settles."""
        while True:
            try:
                return self._session.publish(packet, self._runtime.now(), is_acknowledged=is_acknowledged)
            except QueueFull:
                if self._session.state is not State.CONNECTED or not self._session.publisher.waiting:
                    raise
            self._driver.settle()
            await self._driver.room.park()

    # Receiving

    def subscribe(
        self,
        filter: str,
        *,
        from_: From = "new",
        after: Position | None = None,
        overflow: packets.Overflow = "replay",
        presence: Literal["watch"] | Mapping[Literal["state"], object] | None = None,
        on_gap: Callable[[Gap], None] | None = None,
    ) -> Messages:
        """The messages of the topics that `filter` matches: `async with client.subscribe(…) as messages`.

        `from_`: "new", "earliest", "last" (the newest of each topic, then live), {"last": 20} (of one exact topic)
        or {"since": ms since 1970}. `after`: a position from an earlier run (`messages.position`) instead.
        `overflow`: what the broker does when this client reads too slowly. `on_gap`: see `Messages`.

        `presence`: "watch" to be told who comes to the topics and who goes, as `Joined` and `Left` in
        `messages.events()`; {"state": …} to be seen on one topic, too. `presence(topic)` says who was there:
        ask after each `CaughtUp`, because changes during a reconnect or a pause are not told.

        Raises BadTopic here, and on entering SubscriptionEnded and ConnectionClosed.
        """
        check_filter(filter, HARD_MAX_LEVELS, HARD_MAX_BYTES)
        return Messages(
            self._driver, filter, _start(from_), after, overflow, on_gap, self._composer.wish(presence)
        )

    def consume(
        self,
        filter: str,
        *,
        durable: str = "",
        shared: bool = False,
        group: str = "",
        from_: From = "new",
        window: int = 32,
        ack_wait: float | None = None,
        max_attempts: int | None = None,
        retry_delay: float = 1.0,
        on_gap: Callable[[Gap], None] | None = None,
    ) -> Deliveries:
        """Messages to be acknowledged, at least once each (G5): `async with client.consume(…) as deliveries`.

        Exactly one name. `durable`: the broker keeps the position and what is not acknowledged, also while nobody
        is there; with `shared` any number of clients take part, each message going to one of them, otherwise there
        is one at a time. `group`: members share, and it is gone with the last of them, so what is published while
        nobody is connected is not for it.

        `from_`: where it begins when it is new to the broker, as in `subscribe` but not "last". `window`: how many
        deliveries may be unanswered at once, and so wait in this client; no more than are done within `ack_wait`.
        `ack_wait`: seconds until an unanswered one is given out again. `max_attempts`: after so many it goes to
        the dead letters, the topic `$dead/<name>`. None: the broker's own. `retry_delay`: seconds that a message
        rests after a `with delivery` block that failed. `on_gap`: see `Deliveries`.

        Raises BadTopic and ValueError here, and on entering SubscriptionEnded and ConnectionClosed.
        """
        check_filter(filter, HARD_MAX_LEVELS, HARD_MAX_BYTES)
        if bool(durable) == bool(group) or (shared and not durable):
            raise ValueError("a consumer has a durable name, which may be shared, or a group")
        check_topic(durable or group, 1, HARD_MAX_BYTES)  # one level
        terms = Terms(
            durable,
            shared,
            group,
            _at_least_one("window", window),
            0 if ack_wait is None else _at_least_one("ack_wait in ms", round(ack_wait * 1000)),
            0 if max_attempts is None else _at_least_one("max_attempts", max_attempts),
        )
        return Deliveries(self._driver, filter, _start(from_), terms, retry_delay, on_gap)

    async def history(
        self,
        topic: str,
        *,
        last: int = 0,
        after: Position | None = None,
        before: Position | None = None,
        limit: int = 100,
    ) -> HistoryPage:
        """What the broker still holds of one topic: the `last` ones, or `limit` after or before a position.

        Asked again after a reconnect. Raises HistoryRefused, Expired (request_timeout_seconds), QueueFull (more
        than max_requests at once), ConnectionClosed, BadTopic.
        """
        check_topic(topic, HARD_MAX_LEVELS, HARD_MAX_BYTES)
        packet = packets.HistoryRequest(
            topic,
            after=msgspec.UNSET if after is None else after,
            before=msgspec.UNSET if before is None else before,
            last=last,
            limit=limit,
        )
        page = await self._read(packet)
        assert isinstance(page, HistoryPage)
        return page

    async def presence(self, topic: str) -> Presence:
        """Who is on a topic now, whether this client subscribes to it or not.

        Raises PresenceRefused, and else what `history` raises.
        """
        check_topic(topic, HARD_MAX_LEVELS, HARD_MAX_BYTES)
        present = await self._read(packets.PresenceRequest(topic))
        assert isinstance(present, Presence)
        return present

    async def _read(self, packet: packets.HistoryRequest | packets.PresenceRequest) -> HistoryPage | Presence:
        read = self._session.read(packet, self._runtime.now())
        read.waiter = self._runtime.event()
        self._driver.settle()
        try:
            await read.waiter.wait()
        except BaseException:
            self._session.reader.abandon(read)
            raise
        assert read.result is not None
        if isinstance(read.result, TriodeError):
            raise read.result
        return read.result

    def events(self) -> Events:
        """Changes of the connection's state, and what the broker says beside messages, from now on."""
        return self._driver.watch()


def _in_words(reasons: Mapping[str, str]) -> str:
    """Why there is no connection; where one URL was tried, who asks knows which."""
    if len(reasons) > 1:
        return "; ".join(f"{shown_url(url)}: {reason}" for url, reason in reasons.items())
    return next(iter(reasons.values()), "no answer")


def _installed_version() -> str:
    try:
        return version("triode")
    except PackageNotFoundError:
        return ""


def _start(from_: From) -> packets.From:
    return from_ if isinstance(from_, str) else msgspec.convert(dict(from_), packets.Start)


def _at_least_one(name: str, value: int) -> int:
    if value < 1:
        raise ValueError(f"{name} is at least 1: {value}")
    return value
