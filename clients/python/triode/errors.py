"""What the client raises: one small tree, each error saying whether a message may have been stored.

Knows nothing of sessions or sockets. The decision worth knowing: a refusal carries the broker's own words (`name`,
`retry`), so that programs decide by these and people read the message.
"""

from triode.records import Published


class TriodeError(Exception):
    """Everything this package raises on purpose; wrong arguments raise ValueError or TypeError."""


class ConnectionRefused(TriodeError):
    """No first connection: the broker said no for good, or did not answer within `wait_seconds`.

    `code` is the close code, or 0; `name` the broker's error name, or "".
    """

    def __init__(self, message: str, *, code: int = 0, name: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.name = name


class ConnectionClosed(TriodeError):
    """The client is closed, by its own goodbye or by a close code that forbids reconnecting.

    Raised for what was never sent (so surely not stored) and by iterators of a client that the broker closed.
    """

    def __init__(self, message: str, *, code: int = 0, name: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.name = name


class Refused(TriodeError):
    """The broker answered with an `error` (SPEC 5.1).

    `retry` is what the broker advises: "never", "now", "backoff" or "reauth". By the time this is raised the
    client has already tried again as long as it may.
    """

    def __init__(
        self, name: str, message: str, *, field: str = "", retry: str = "never", retry_after_ms: int = 0
    ) -> None:
        super().__init__(f"{name}: {message}" if message else name)
        self.name = name
        self.message = message
        self.field = field
        self.retry = retry
        self.retry_after_ms = retry_after_ms


class PublishRefused(Refused):
    """The message was refused and is surely not stored."""


class HistoryRefused(Refused):
    """The history request was refused."""


class PresenceRefused(Refused):
    """The request for who is on a topic was refused."""


class SubscriptionEnded(Refused):
    """The broker refused the subscription, or ended it."""


class DeliveryRefused(Refused):
    """The broker did not take the answer to a delivery: more time for one that is another member's by now, say."""


class DeliveryLost(TriodeError):
    """The delivery was taken back with its connection or subscription, before the broker confirmed the answer.

    The message comes again, here or at another member, unless the broker had heard the answer after all.
    """


class OutcomeUnknown(TriodeError):
    """The message was sent and no answer came in time: it is stored, or it is not.

    Publish it again with this `message_id`: inside the broker's deduplication window it is stored once (G2).
    """

    def __init__(self, message: str, *, message_id: str) -> None:
        super().__init__(message)
        self.message_id = message_id


class QueueFull(TriodeError):
    """The queue of messages waiting to be sent is at its bound (`max_queue_messages`, `max_queue_bytes`).

    What is already in the queue stays; this message was not taken.
    """


class PublishManyFailed(TriodeError):
    """Some of the messages of `publish_many` failed.

    `results` says of each, in the order they were given, its place or what `publish` would have raised.
    """

    def __init__(self, results: list[Published | TriodeError]) -> None:
        errors = [each for each in results if isinstance(each, TriodeError)]
        super().__init__(f"{len(errors)} of {len(results)} messages: {errors[0]}")
        self.results = results


class Expired(TriodeError):
    """It waited in the client longer than its expiry without ever being sent; a read was not answered in time."""


class InParentProcess(TriodeError):
    """It was begun before a fork, and only the parent process can go on with it: `triode.sync` in a child."""
