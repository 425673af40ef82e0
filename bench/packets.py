"""The client's side of triode.v1.json, as far as the workloads speak it: frames made ahead of the run.

What it must not know: sockets, time, what servers answer.
The surprising decision: a publish is one constant frame, sent again and again. Its place is told by
the offset the server gives it, so nothing has to be written into the payload.
"""

import json
from collections.abc import Sequence

from bench.frames import client_frame

PAYLOAD = "x" * 126  # 128 bytes as JSON text


def packet(**fields: object) -> bytes:
    """A packet in a client frame; the field `type` is written `kind` (a reserved word elsewhere)."""
    kind = fields.pop("kind")
    return client_frame(json.dumps({"type": kind, **fields}, separators=(",", ":")).encode())


def publish_frame(topic: str, request: int | None = None) -> bytes:
    """A publish of 128 bytes of JSON; with a request id the server acknowledges it."""
    numbered = {} if request is None else {"id": request}
    return packet(kind="publish", **numbered, topic=topic, data=PAYLOAD)


def greeting(filter_: str | None = None, capabilities: Sequence[str] = (), token: str = "") -> bytes:
    """`connect`, and `subscribe` behind it without waiting, as the protocol allows."""
    offer: dict[str, object] = {"capabilities": list(capabilities)} if capabilities else {}
    shown = {"token": token} if token else {}
    frames = packet(kind="connect", id=1, **shown, **offer)
    if filter_ is not None:
        frames += packet(kind="subscribe", id=2, sub=1, filter=filter_)
    return frames
