"""Which `sub` numbers a connection has used: none may come twice (SPEC 3.2). Small for clients that count up."""

from triode_protocol.codec import Refused
from triode_protocol.errors import ErrorName

#: Numbers kept apart from the row 1, 2, 3, … before a connection is told to count up.
MAX_SCATTERED = 4_096


class UsedNumbers:
    """A set of positive numbers, cheap where they come in a row."""

    __slots__ = ("_scattered", "_upto")

    def __init__(self) -> None:
        self._upto = 0  # all of 1…upto are used
        self._scattered: set[int] | None = None  # made at need: idle connections are many

    def __contains__(self, number: int) -> bool:
        return number <= self._upto or (self._scattered is not None and number in self._scattered)

    def check(self, number: int) -> None:
        """Raise Refused when it is out of the row and too many are to be remembered."""
        if number != self._upto + 1 and len(self._scattered or ()) >= MAX_SCATTERED:
            message = "too many sub numbers out of order on this connection: count up from 1"
            raise Refused(ErrorName.QUOTA, message, field="sub")

    def add(self, number: int) -> None:
        """Remember a number. Raises Refused as `check` does."""
        self.check(number)
        if number != self._upto + 1:
            self._scatter(number)
            return
        self._upto = number
        while self._scattered and self._upto + 1 in self._scattered:
            self._upto += 1
            self._scattered.remove(self._upto)

    def _scatter(self, number: int) -> None:
        scattered = self._scattered = self._scattered or set()
        scattered.add(number)
