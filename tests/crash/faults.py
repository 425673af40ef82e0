"""Where the broker kills itself, and the bugs that are planted in it, by wrapping methods of the product.

The product has no hooks for this. What is wrapped is named by its path, so that a name that is gone fails loudly.
"""

import os
import signal
from collections.abc import Callable
from importlib import import_module
from typing import Any

#: Point → the method, and whether its passage counts before or after it has run.
POINTS: dict[str, tuple[str, str]] = {
    "accepted": ("triode_broker.core.awaiting:Awaiting.take", "after"),
    "committed": ("triode_broker.core.awaiting:Awaiting.told", "before"),
    "delivered": ("triode_broker.core.router:Router._deliver", "after"),
    "answered": ("triode_broker.core.session:Session.answer", "after"),
    "sent": ("triode_broker.edge.wire:Wire.write", "after"),
    "trimmed": ("triode_broker.core.router:Router.trim", "after"),
}


def kill_at(point: str, passage: int) -> None:
    """From now on the n-th passage of a point is the end."""
    path, when = POINTS[point]
    count = [0]

    def pass_it() -> None:
        count[0] += 1
        if count[0] == passage:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(inner: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*arguments: Any, **named: Any) -> Any:
            if when == "before":
                pass_it()
            result = inner(*arguments, **named)
            if when == "after":
                pass_it()
            return result

        return wrapper

    wrap(path, around)


def wrap(path: str, around: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Put something around a method."""
    module, _, names = path.partition(":")
    owner_name, _, name = names.partition(".")
    owner = getattr(import_module(module), owner_name)
    setattr(owner, name, around(getattr(owner, name)))


def plant(name: str) -> None:
    """Put a bug into this process."""
    PLANTS[name]()


def _skip_gap() -> None:
    """A gap is not sent."""
    wrap("triode_broker.core.catch_up:CatchUp.report", lambda inner: lambda self, reason: None)


PLANTS: dict[str, Callable[[], None]] = {"skip_gap": _skip_gap}
