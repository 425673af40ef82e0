"""The trio face of the client, the one that `import triode` offers: `triode.connect(url)`, or of several URLs.

Knows which runtime it is; all else is `Client`. The surprising decision: trio is imported by the call, so that the
other faces, which share everything but this, never load it.
"""

import ssl
from collections.abc import Iterable

from triode.client import Client
from triode.composing import Encode
from triode.driver import Token
from triode.options import Options
from triode.will import Will


def connect(
    url: str | Iterable[str],
    *,
    token: Token = "",
    name: str = "",
    wait_seconds: float = 30.0,
    ssl_context: ssl.SSLContext | None = None,
    will: Will | None = None,
    encode: Encode | None = None,
    **limits: float,
) -> Client:
    """A client of the broker at `url` ("ws://host:7400", "wss://…", "http://…"; no path means /ws).

    Several URLs are nodes of one cluster: `connect(["ws://a:7400", "ws://b:7400"])`. The client is at one of them,
    a random one, and goes to another by itself when that is lost or refuses: each is tried once, at once, before
    it waits as with a single one. A node that asked for a pause gets it; a refusal for good is one by them all.

    Use it as `async with triode.connect(url) as client`. Entering waits until connected, at most `wait_seconds`
    (0: do not wait, `math.inf`: for ever), and raises ConnectionRefused when the broker refuses for good or did
    not answer in time, ConnectionClosed when another task closes it. From then on the client reconnects by itself.

    `token`: a string, or an async function that fetches one, called before each attempt, and ahead of expiry where
    the broker takes another one on a live connection; one call at a time. `name` is for the broker's operator to
    see. `will`: what the broker publishes when this client is lost. `limits`: any field of `triode.Options`.

    `encode`: a function that makes of a value which JSON has no word for one that it has. dataclasses, attrs and
    msgspec objects, dates, UUIDs and the like need none; pydantic's models need
    `lambda model: model.model_dump(mode="json")`. It is asked for all that this client publishes, its will and its
    presence states too.

    Raises ValueError or TypeError for wrong arguments.
    """
    from triode.trio_runtime import TrioRuntime

    options = Options(**limits)  # type: ignore[arg-type]  # counts given as int arrive as int
    return Client(TrioRuntime(), url, token, name, wait_seconds, ssl_context, options, will, encode)
