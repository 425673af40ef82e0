"""Kinds of numbers that settings are."""

from typing import Annotated

from msgspec import Meta

#: What JSON carries exactly everywhere; no setting means anything beyond.
MAX_INTEGER = 2**53 - 1
Positive = Annotated[int, Meta(ge=1, le=MAX_INTEGER)]
NotNegative = Annotated[int, Meta(ge=0, le=MAX_INTEGER)]
Retention = Annotated[int, Meta(ge=-1, le=MAX_INTEGER)]
