"""Statistics: what a node's core counts as it happens, as plain integers; whoever reads them takes differences."""

from collections import Counter

import attrs


@attrs.define
class Statistics:
    """Counters since the start. A message adds to two of them: 25 ns each."""

    duplicates: int = 0
    overflows: int = 0  # times a subscription left live because its connection was slow
    published: int = 0  # messages that were answered in the turn that took them: those in memory
    fanned_out: int = 0  # messages put into outboxes, live
    redelivered: int = 0  # deliveries that came to nothing, and are to come again
    dead_letters: int = 0  # written
    gaps: Counter[str] = attrs.field(factory=Counter)  # told to subscriptions, by reason
