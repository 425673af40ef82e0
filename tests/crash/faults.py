"""Where the broker kills itself, and the bugs that are planted in it, by wrapping methods of the product.

The product has no hooks for this. What is wrapped is named by its path, so that a name that is gone fails loudly
(and test_faults.py says so at once).
"""

import os
import signal
from collections.abc import Callable
from importlib import import_module
from typing import Any, Literal

import attrs
from attrs import frozen
from triode_protocol.packets import Acked, Published

Method = Callable[..., Any]


@frozen
class Point:
    """A place in the walk of a message: before or after a method has run. `often`: passages in a life, about."""

    path: str
    when: Literal["before", "after"]
    often: int = 40


_DISK, _CORE = "triode_broker.log.disk", "triode_broker.core"
#: In the order in which a durable message passes them; then what happens beside it.
POINTS = {
    "accepted": Point(f"{_CORE}.awaiting:Awaiting.take", "after"),
    "handed": Point(f"{_DISK}.log:DiskLog.close_turn", "after", 8),
    "begun": Point(f"{_DISK}.store:Store._write", "before", 8),  # the transaction, and nothing written
    "written": Point(f"{_DISK}.store:Store._write", "after", 8),  # and not committed
    "flushed": Point(f"{_DISK}.store:Store.commit", "after", 8),  # in the thread: nobody has been told
    "told": Point(f"{_CORE}.awaiting:Awaiting.told", "before", 8),
    "delivered": Point(f"{_CORE}.router:Router.deliver", "after"),  # in the outboxes; the answer is not
    "answered": Point(f"{_CORE}.session:Session.answer", "after"),  # in the outbox; nothing is sent
    "sent": Point("triode_broker.edge.wire:Wire.write", "after", 100),  # to some, in the middle of a flush
    "saved": Point(f"{_DISK}.log:DiskLog.save", "after", 8),  # what a durable subscription or a delay keeps
    "checkpointing": Point(f"{_DISK}.store:Store.checkpoint", "before", 3),
    "checkpointed": Point(f"{_DISK}.store:Store.checkpoint", "after", 3),
    "trimming": Point(f"{_DISK}.retention:Retention.trim_topic", "after", 2),  # inside a transaction
    "opening": Point(f"{_DISK}.opening:_set_going", "before", 1),
    "marked": Point(f"{_DISK}.store:Store.transaction", "after", 3),  # the first ones mark the file as open
    "loaded": Point(f"{_CORE}.router:Router._load", "after", 1),
}


def kill_at(name: str, passage: int) -> None:
    """From now on the n-th passage of a point is the end."""
    point = POINTS[name]
    count = 0

    def pass_it() -> None:
        nonlocal count
        count += 1
        if count == passage:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(inner: Method) -> Method:
        def wrapper(*arguments: Any, **named: Any) -> Any:
            if point.when == "before":
                pass_it()
            result = inner(*arguments, **named)
            if point.when == "after":
                pass_it()
            return result

        return wrapper

    wrap(point.path, around)


def checkpoint_often(frames: int) -> None:
    """The write-ahead log is copied into the file when it has so many pages, as if much more were published."""

    def around(inner: Method) -> Method:
        return lambda opening, contents, limits, lock, _: inner(opening, contents, limits, lock, frames)

    wrap(f"{_DISK}.opening:_set_going", around)


def wrap(path: str, around: Callable[[Method], Method]) -> None:
    """Put something around a method or function. Raises AttributeError where it is gone."""
    owner, name = locate(path)
    setattr(owner, name, around(getattr(owner, name)))


def locate(path: str) -> tuple[Any, str]:
    """What `module:Class.method` or `module:function` is an attribute of, and its name."""
    module, _, names = path.partition(":")
    owner: Any = import_module(module)
    *owners, name = names.split(".")
    for one in owners:
        owner = getattr(owner, one)
    getattr(owner, name)
    return owner, name


def plant(name: str) -> None:
    """Put a bug into this process."""
    path, around = PLANTS[name]
    wrap(path, around)


def _ack_before_fsync(inner: Method) -> Method:
    """A publish is answered when it is accepted, and committed some time later."""
    from triode_broker.core.session import Session

    def take(self: Any, topic: Any, packet: Any, user: str, publisher: Any, id: int, *rest: Any) -> None:
        is_early = isinstance(publisher, Session)
        inner(self, topic, packet, user, publisher, 0 if is_early else id, *rest)
        if is_early and id:
            record, log = self._waiting[-1].record, self._log
            publisher.answer(Published(id, log.name, record.pos, record.offset, log.level))

    return take


def _skip_gap(inner: Method) -> Method:
    """A gap is not sent."""
    return lambda self, reason: None


def _reuse_offset(inner: Method) -> Method:
    """After a restart the newest offset of every topic is given again."""

    def loaded(self: Any) -> Any:
        found = inner(self)
        return attrs.evolve(found, topics={name: max(offset - 1, 0) for name, offset in found.topics.items()})

    return loaded


def _dedup_off(inner: Method) -> Method:
    """After a restart no message id is remembered."""
    return lambda self: attrs.evolve(inner(self), remembered=[])


def _settle_before_fsync(inner: Method) -> Method:
    """An ack on a durable subscription is answered before its state is on disk."""

    def answer(self: Any, member: Any, id: int) -> None:
        if id:
            member.publisher.answer(Acked(id))

    return answer


PLANTS: dict[str, tuple[str, Callable[[Method], Method]]] = {
    "ack_before_fsync": (f"{_CORE}.awaiting:Awaiting.take", _ack_before_fsync),
    "skip_gap": (f"{_CORE}.catch_up:CatchUp.report", _skip_gap),
    "reuse_offset": (f"{_DISK}.log:DiskLog.loaded", _reuse_offset),
    "dedup_off": (f"{_DISK}.log:DiskLog.loaded", _dedup_off),
    "settle_before_fsync": (f"{_CORE}.consumers:Consumers._answer", _settle_before_fsync),
}
