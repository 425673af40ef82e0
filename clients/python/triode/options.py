"""Every limit and default of the client: name, unit, meaning. There is no second place.

`triode.connect` takes each of them as a keyword. Times are seconds, sizes bytes of UTF-8. What the broker
announces in `connected` (window, frame size, ping interval, backoff bounds) is not here: it wins over any wish of
ours.
"""

from typing import Any, Final

from attrs import field, frozen, validators

_more_than_nothing: Final[Any] = validators.gt(0)


def _positive(default: float) -> float:
    value: float = field(default=default, validator=_more_than_nothing)
    return value


def _count(default: int) -> int:
    value: int = field(default=default, validator=_more_than_nothing)
    return value


@frozen(kw_only=True)
class Options:
    """Bounds on what one client may take. All are positive; ValueError otherwise."""

    # Connecting
    connect_timeout_seconds: float = _positive(5.0)  # from dialling to `connected`, each attempt
    close_timeout_seconds: float = _positive(5.0)  # at the end, for flushing what is queued; again for the goodbye
    farewell_timeout_seconds: float = _positive(1.0)  # for closing a connection that is given up
    stable_seconds: float = _positive(5.0)  # a connection that lived so long resets the backoff
    max_wait_seconds: float = _positive(300.0)  # longest pause between attempts that a broker may ask for

    # Publishing: what waits in the client, sent and unsent together
    max_queue_messages: int = _count(10_000)
    max_queue_bytes: int = _count(16_777_216)
    publish_expiry_seconds: float = _positive(60.0)  # from publish() to its answer

    # Receiving: what waits for the consumer of one subscription
    max_inbox_messages: int = _count(10_000)
    max_inbox_bytes: int = _count(16_777_216)
    max_receive_bytes: int = _count(16_777_216)  # of one WebSocket message from the broker

    # Reading
    request_timeout_seconds: float = _positive(30.0)  # of history() and presence(), reconnects included
    max_requests: int = _count(256)  # of these unanswered at once

    # Watching
    max_events: int = _count(256)  # kept for one slow client.events(); the oldest go first
