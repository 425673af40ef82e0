"""S14: a configuration file, byte for byte. Reading it gives settings, or sentences; never anything else.

Whatever is read without a complaint can be printed by `--check`, and read again with the same result.
"""

import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from triode_broker.cli.effective import as_toml
from triode_broker.cli.settings import BadSettings, load

from tests.fuzz.running import Run, Target
from tests.house.tree import ROOT

EXAMPLE = (ROOT / "docs" / "examples" / "triode.toml").read_bytes()
SEEDS = [
    EXAMPLE,
    *(part for part in EXAMPLE.split(b"\n\n") if part),
    b'listen = "127.0.0.1:0"\norigins = ["https://a.example"]\n[limits]\nmax_connections = 5\n',
    b'[auth]\nanonymous = true\n[[permissions]]\nrole = "anonymous"\nsubscribe = ["a/{user}/#"]\n',
    b'[[topics]]\nfilter = "a/#"\nretention_messages = 5\n[[topics]]\nfilter = "#"\n',
]


@contextmanager
def begin(chance: random.Random) -> Iterator[Run]:
    with tempfile.TemporaryDirectory() as folder:
        file, again = Path(folder) / "triode.toml", Path(folder) / "again.toml"

        def run(data: bytes, chance: random.Random) -> str:
            file.write_bytes(data)
            try:
                settings = load(file=file)
            except BadSettings as bad:
                return complaint(bad.problems)
            again.write_text(as_toml(settings))
            assert load(file=again).config == settings.config
            return "good"

        yield run


def complaint(problems: list[str]) -> str:
    """What kinds there are; S27: they go to a terminal."""
    assert all(one.isprintable() for one in problems)
    return " ".join(sorted({one.partition(": ")[2][:12] for one in problems}))[:40]


SETTINGS = Target("settings", SEEDS, begin)
