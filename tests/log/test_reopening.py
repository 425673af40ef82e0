"""What every durable engine promises of its files: reopened after a kill, a cut or a flipped bit anywhere.

Nothing wrong is ever served. What is there is all that was told as committed, in the same life, or a loss is
reported, or the life is a new one.
"""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from triode_broker.core.interfaces import DurableLog

from tests.log.reopening import HOMES, Home, Writer, as_named, look

Opens = Callable[[Path], Home]


@pytest.fixture(params=HOMES, scope="session")
def make_home(request: pytest.FixtureRequest) -> Opens:
    return HOMES[request.param]


@pytest.fixture
def home(make_home: Opens, tmp_path: Path) -> Home:
    return make_home(tmp_path / "data")


def opened(home: Home) -> Writer:
    return Writer(home.open(), home.settle)


@pytest.mark.parametrize("is_killed", [False, True])
def test_restart_keeps_everything(home: Home, is_killed: bool) -> None:
    """G1, I1, I7: name, numbers, messages, ids, values."""
    writer = opened(home)
    writer.fill(40)
    name = writer.log.name
    if is_killed:
        home.kill()
    else:
        home.close()
    log = home.open()
    found = look(log, home.settle)
    assert (found.name, found.head, found.has_loss) == (name, 40, False)
    assert found.records == list(writer.written.values())
    assert found.loaded.topics == writer.offsets
    assert found.loaded.values == writer.saved
    assert [one.key[2] for one in found.loaded.remembered] == [f"m{pos}" for pos in range(0, 40, 3)]
    assert [(one.pos, one.offset) for one in found.loaded.remembered] == [
        (pos, writer.written[pos].offset) for pos in range(1, 41, 3)
    ]
    assert (found.loaded.ts, found.loaded.previous, found.loaded.has_forgotten) == (writer.now_ms, "", False)
    again = Writer.going_on(log, home.settle, writer)
    again.fill(10)
    assert look(log, home.settle).records == [*writer.written.values(), *again.written.values()]
    home.close()


def test_uncommitted_is_not_read_and_not_the_head(home: Home) -> None:
    writer = opened(home)
    writer.fill(5)
    writer.append("a")
    assert writer.log.head() == 5
    assert writer.log.uncommitted_bytes > 0
    writer.settle()
    assert (writer.log.head(), writer.log.uncommitted_bytes) == (6, 0)
    home.close()


def test_step_is_committed_together_and_in_order(home: Home) -> None:
    """Records and values of one step are one transaction, however many they are."""
    writer = opened(home)
    for number in range(700):
        writer.append("a", size=3)
        writer.save("count", b"%d" % (number + 1))
    writer.settle()
    assert writer.told == [(700, "committed")]
    home.kill()
    assert home.open().loaded().values == {"count": b"700"}
    home.close()


def test_forgotten_value_is_gone(home: Home) -> None:
    writer = opened(home)
    writer.save("a", b"1")
    writer.settle()
    writer.save("a", b"")
    writer.settle()
    home.close()
    assert home.open().loaded().values == {}
    home.close()


# Damage


def damaged(make_home: Opens, change: Callable[[dict[Path, bytes]], None], is_killed: bool) -> None:
    """Write, stop, change the files, look at what is there now, go on."""
    with TemporaryDirectory(prefix="triode-damage-") as room:
        home = make_home(Path(room) / "data")
        writer = opened(home)
        writer.fill(24)
        if is_killed:
            files = home.kill()
        else:
            home.close()
            files = {path: path.read_bytes() for path in (Path(room) / "data").iterdir()}
            files = {path: data for path, data in files.items() if data}
        change(files)
        home.put(files)
        log = home.open()
        check(log, home.settle, writer)
        again = Writer.going_on(log, home.settle, writer)
        again.fill(6)
        assert again.told[-1][1] == "committed" or log.state == "failed"
        home.close()


def check(log: DurableLog, settle: Callable[[], None], writer: Writer) -> None:
    is_same_life = log.name == writer.log.name
    for filter in ("#", "a", "b/+"):
        found = look(log, settle, filter)
        for record in found.records:
            assert record == as_named(writer.written[record.pos], found.name), "never a wrong one"
        assert [one.pos for one in found.records] == sorted({one.pos for one in found.records})
        due = [one for one in writer.written.values() if filter == "#" or one.topic[0] == filter[0]]
        if is_same_life and not found.has_loss:
            assert found.records == due, "never a silent hole"
        if is_same_life:
            assert found.head == 24
    loaded = log.loaded()
    for name, value in loaded.values.items():
        assert value == writer.saved[name]
    for one in loaded.remembered:
        assert writer.written[one.pos].offset == one.offset
    if is_same_life:
        assert (loaded.values, loaded.topics) == (writer.saved, writer.offsets)
        assert len(loaded.remembered) == 8


PLACES = st.tuples(st.integers(0, 1), st.integers(0, 1_000_000), st.integers(0, 7), st.booleans())
MANY = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@MANY
@given(PLACES, st.booleans())
def test_flipped_bit_anywhere_is_never_served(
    make_home: Opens, place: tuple[int, int, int, bool], is_killed: bool
) -> None:
    """Item 1: also in what SQLite itself keeps in the file."""
    which, number, bit, is_any = place

    def flip(files: dict[Path, bytes]) -> None:
        path = sorted(files)[which % len(files)]
        data = bytearray(files[path])
        places = range(len(data)) if is_any else [index for index, byte in enumerate(data) if byte]
        data[places[number % len(places)]] ^= 1 << bit
        files[path] = bytes(data)

    damaged(make_home, flip, is_killed)


@MANY
@given(st.integers(0, 1), st.integers(0, 1_000_000), st.booleans())
def test_cut_at_any_byte_is_noticed(make_home: Opens, which: int, number: int, is_killed: bool) -> None:
    """Item 2."""

    def cut(files: dict[Path, bytes]) -> None:
        path = sorted(files)[which % len(files)]
        files[path] = files[path][: number % len(files[path])]

    damaged(make_home, cut, is_killed)
