"""Triode's blocking client, in one thread of the program.

What it must not know: how it is measured.
The surprising decision: nothing is tuned; as in `faces`.
"""

from collections import deque
from typing import Final

import triode.sync

from bench.callers.errand import Errand, Meter, payload

_UNANSWERED: Final = 2_048


def run(errand: Errand, meter: Meter, manner: str) -> None:
    """In this thread, and the client's own."""
    with triode.sync.connect(errand.url) as client:
        if errand.workload == "clients-receive":
            _receive(client, errand, meter)
            return
        meter.place(client.publish(errand.topic, payload(0)).offset, 0)
        meter.ready()
        do = {"clients-send": _send, "clients-acked": _acked, "clients-many": _many}[errand.workload]
        for _ in range(errand.windows):
            meter.begin()
            offset = do(client, errand)
            meter.end(errand.count)
            meter.place(offset, errand.count)


def _receive(client: triode.sync.Client, errand: Errand, meter: Meter) -> None:
    with client.subscribe(errand.topic) as messages:
        meter.ready()
        for message in messages:
            if meter.received(message.data["n"]):
                return


def _send(client: triode.sync.Client, errand: Errand) -> int:
    for number in range(errand.count - 1):
        client.send(errand.topic, payload(number))
    return client.publish(errand.topic, payload(0)).offset


def _acked(client: triode.sync.Client, errand: Errand) -> int:
    receipts: deque[triode.sync.Receipt] = deque()
    for number in range(errand.count):
        if len(receipts) == _UNANSWERED:
            receipts.popleft().wait()
        receipts.append(client.publish_nowait(errand.topic, payload(number)))
    for receipt in receipts:
        place = receipt.wait()
    return place.offset


def _many(client: triode.sync.Client, errand: Errand) -> int:
    for first in range(0, errand.count, _UNANSWERED):
        several = range(first, min(first + _UNANSWERED, errand.count))
        places = client.publish_many([(errand.topic, payload(number)) for number in several])
    return places[-1].offset
