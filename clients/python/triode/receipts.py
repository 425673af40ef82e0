"""What a program holds of a message that it has published without waiting.

Knows the driver and the publication, no packets.
"""

from triode.driver import Driver
from triode.errors import TriodeError
from triode.publishing import Publication
from triode.records import Published


class Receipt:
    """A message on its way: made by `publish_nowait`."""

    def __init__(self, driver: Driver, publication: Publication) -> None:
        self._driver = driver
        self._publication = publication
        publication.waiter = driver.runtime.event()

    @property
    def is_done(self) -> bool:
        """Whether `wait` returns or raises without waiting."""
        return self._publication.result is not None

    async def wait(self) -> Published:
        """Its place, once acknowledged; raises what `Client.publish` raises. Cancelled, the message goes on."""
        await self._publication.waiter.wait()
        result = self._publication.result
        assert result is not None
        if isinstance(result, TriodeError):
            raise result
        return result

    def abandon(self) -> None:
        """Nobody cares any more: if unsent it is never sent, if sent it is not sent again."""
        self._driver.session.publisher.abandon(self._publication)
        self._driver.settle()
