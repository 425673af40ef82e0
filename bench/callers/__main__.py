"""One client does one workload: `python -m bench.callers ERRAND`, started by `bench.clients`.

What it must not know: servers, rounds, reports.
The surprising decision: it imports only the library that it measures, so that none of them costs another memory
or time.
"""

import os
import sys
from importlib import import_module
from typing import Final

import msgspec

from bench.callers.errand import Errand, Meter

#: By contestant: a module of this package, and what its `run` is told.
MODULES: Final = {
    "triode": ("faces", "trio"),
    "triode, asyncio": ("asyncio_face", ""),
    "triode, sync": ("blocking_face", ""),
    "websockets, arrays": ("by_hand", "arrays"),
    "websockets": ("by_hand", ""),
    "nats-py": ("nats_client", ""),
    "nats-py, TCP": ("nats_client", ""),
}


def main() -> None:
    errand = msgspec.json.decode(sys.argv[1], type=Errand)
    os.sched_setaffinity(0, {errand.core})
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))  # the parent is a batch process
    module, manner = MODULES[errand.contestant]
    meter = Meter(errand)
    import_module(f"bench.callers.{module}").run(errand, meter, manner)
    meter.report()


if __name__ == "__main__":
    main()
