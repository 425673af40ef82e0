"""The table of this node: all that can be asked of it by HTTP, whoever asks."""

from typing import Final

from triode_broker.http import console_operations, describing, events, link_operations, operators
from triode_broker.http.operations import Operation
from triode_broker.http.publishing import PUBLISHING
from triode_broker.http.reading import READING

#: Where all of it stands.
BELOW: Final = "/v1/"
OPERATIONS: Final[tuple[Operation, ...]] = (
    *PUBLISHING,
    *READING,
    *events.OPERATIONS,
    *link_operations.OPERATIONS,
    *operators.OPERATIONS,
    *console_operations.OPERATIONS,
    *describing.OPERATIONS,
)
