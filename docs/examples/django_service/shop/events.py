"""What the shop says to the world, and the one client that says it.

Views use the client as it is; what is about rows goes through `tell_after_commit`. Importing this connects
nothing: the client begins with its first use, in each process by itself, so a server may fork after the import.
"""

import logging
from functools import partial

import triode.sync
from django.conf import settings
from django.db import transaction

log = logging.getLogger(__name__)

client = triode.sync.connect(
    settings.TRIODE_URL,
    name="shop",
    wait_seconds=0,  # the shop is open without the broker, too
    publish_expiry_seconds=10,
)


def tell_after_commit(topic: str, data: object, message_id: str) -> None:
    """Publish once the transaction is committed; never, if it is rolled back. Nobody waits for the broker."""
    transaction.on_commit(partial(_tell, topic, data, message_id))


def _tell(topic: str, data: object, message_id: str) -> None:
    try:
        client.publish_nowait(topic, data, message_id=message_id)
    except triode.TriodeError:  # too much waits for the broker already; the order is stored all the same
        log.exception("not published: %s %s", topic, message_id)
