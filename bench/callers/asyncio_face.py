"""Triode's client on asyncio: the program of `faces`, on the other loop.

What it must not know: how it is measured.
"""

import asyncio

import triode.asyncio

from bench.callers.errand import Errand, Meter
from bench.callers.faces import work


def run(errand: Errand, meter: Meter, manner: str) -> None:
    """On asyncio's own loop."""
    asyncio.run(work(triode.asyncio.connect, errand, meter))
