"""Message ids: remembered for their window, as far as their bytes allow, the oldest going first (G2)."""

from hypothesis import given
from hypothesis import strategies as st
from triode_broker.core.message_ids import ENTRY_OVERHEAD_BYTES, Key, MessageIds, Remembered


def key(number: int) -> Key:
    return ("topic", "", f"{number:04}")


def entry(number: int, expires_ms: int = 1_000) -> Remembered:
    return Remembered(key(number), 99, number, number, expires_ms)


ENTRY_BYTES = entry(0).size


def test_entry_counts_its_characters() -> None:
    assert ENTRY_BYTES == ENTRY_OVERHEAD_BYTES + 4
    assert Remembered(("t", "user", "id"), 1, 1, 1, 1).size == ENTRY_OVERHEAD_BYTES + 6


def test_key_is_found_while_its_window_lasts() -> None:
    ids = MessageIds(10_000)
    ids.remember(entry(1, expires_ms=1_000))
    assert ids.find(key(1), 999) == entry(1)
    assert ids.find(key(1), 1_000) is None
    assert ids.find(key(2), 0) is None


def test_same_id_on_another_topic_or_of_another_identity_is_another() -> None:
    ids = MessageIds(10_000)
    ids.remember(Remembered(("a", "u", "id"), 1, 1, 1, 1_000))
    assert ids.find(("b", "u", "id"), 0) is None
    assert ids.find(("a", "v", "id"), 0) is None


def test_oldest_make_room() -> None:
    ids = MessageIds(3 * ENTRY_BYTES)
    for number in range(5):
        ids.remember(entry(number))
    assert [number for number in range(5) if ids.find(key(number), 0)] == [2, 3, 4]
    assert (len(ids), ids.size) == (3, 3 * ENTRY_BYTES)


def test_entry_larger_than_the_bound_is_not_remembered() -> None:
    ids = MessageIds(10)
    ids.remember(entry(1))
    assert (len(ids), ids.size) == (0, 0)


def test_expired_are_dropped_from_the_oldest_on() -> None:
    ids = MessageIds(10_000)
    for number, expires_ms in ((1, 100), (2, 900), (3, 200)):
        ids.remember(entry(number, expires_ms))
    ids.expire(500)
    assert len(ids) == 2, "a short window behind a long one waits for it"
    assert ids.find(key(3), 500) is None
    ids.expire(900)
    assert (len(ids), ids.size) == (0, 0)


def test_key_remembered_anew_outlives_its_first_entry() -> None:
    ids = MessageIds(10_000)
    ids.remember(entry(1, 900))
    ids.remember(entry(2, 100))
    ids.remember(entry(2, 2_000))
    ids.expire(900)
    assert ids.find(key(2), 900) == entry(2, 2_000)
    ids.expire(2_000)
    assert (len(ids), ids.size) == (0, 0)


STEPS = st.lists(
    st.tuples(st.sampled_from(["publish", "publish", "time"]), st.integers(0, 5), st.integers(1, 300))
)


@given(STEPS, st.integers(0, 4))
def test_ids_are_found_as_in_a_list(steps: list[tuple[str, int, int]], max_entries: int) -> None:
    """I9: inside the window and the bound an id is found, and with the place of the first."""
    ids = MessageIds(max_entries * ENTRY_BYTES)
    kept: list[Remembered] = []
    now_ms = 0
    for step, number, passed_ms in steps:
        if step == "time":
            now_ms += passed_ms
            ids.expire(now_ms)
            while kept and kept[0].expires_ms <= now_ms:
                kept.pop(0)
            continue
        first = next((one for one in kept if one.key == key(number) and one.expires_ms > now_ms), None)
        assert ids.find(key(number), now_ms) == first
        if first is None:
            new = entry(number, now_ms + passed_ms)
            ids.remember(new)
            kept = [*kept, new][-max_entries:] if max_entries else []
        assert (len(ids), ids.size) == (len(kept), len(kept) * ENTRY_BYTES)
