"""Last wills: what the broker publishes for a client whose connection is lost (SPEC 10.7).

Knows how a publish is composed, no session. A will is said anew on every connection, so it holds until goodbye.
"""

from attrs import frozen
from triode_protocol import packets

from triode.composing import Composer


@frozen
class Will:
    """Published by the broker when this client is lost: not after its goodbye, and not if it is back in time.

    `data` as in `Client.publish`. `delay`: seconds between the loss and the message, in which the client may come
    back. A broker that dies publishes no wills.
    """

    topic: str
    data: object
    key: str = ""
    delay: float = 0.0

    def packet(self, composer: Composer | None = None) -> packets.Will:
        """As `connect` says it. Raises BadTopic, ValueError, TypeError."""
        if self.delay < 0:
            raise ValueError(f"delay is in seconds, 0 or more: {self.delay}")
        publish = (composer or Composer()).publish(self.topic, self.data, key=self.key)
        return packets.Will(publish.topic, publish.data, publish.b64, publish.key, round(self.delay * 1000))
