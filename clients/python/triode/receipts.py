"""What a program holds of a message that it has published without waiting.

Knows the driver and the publication, no packets. The surprising decision: what has its answer already is no
checkpoint, except every 64th of a client: a program that publishes fast takes its answers as fast as they come.
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

    @property
    def is_done(self) -> bool:
        """Whether `wait` returns or raises without waiting."""
        return self._publication.result is not None

    async def wait(self) -> Published:
        """Its place, once acknowledged; raises what `Client.publish` raises. Cancelled, the message goes on.

        Where it is done this lets others run every 64th time only.
        """
        publication = self._publication
        if publication.result is not None:
            await self._driver.breathe()
        else:
            if publication.waiter is None:
                publication.waiter = self._driver.runtime.event()
            await publication.waiter.wait()
        result = publication.result
        assert result is not None
        if isinstance(result, TriodeError):
            raise result
        return result

    def abandon(self) -> None:
        """Nobody cares any more: if unsent it is never sent, if sent it is not sent again."""
        self._driver.session.publisher.abandon(self._publication)
        self._driver.settle()
