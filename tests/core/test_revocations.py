"""S19: the table of revocations: whom it refuses, for how long, and that tables of nodes become one."""

from itertools import permutations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from triode_broker.core.identity import Identity
from triode_broker.core.revocations import (
    LIFTED_MS,
    MAX_VALUE_CHARACTERS,
    MOST_OF_OTHERS,
    Kind,
    Revocation,
    Revocations,
    TooMany,
)

NOW = 1_000_000
ADA = Identity("ada", issued_ms=NOW - 10, token_id="t1")
SERVICE = Identity("billing", key="k1")


def table(*entries: Revocation, most: int = 10) -> Revocations:
    made = Revocations(most)
    for entry in entries:
        made.add(entry)
    return made


def of(kind: Kind, value: str, at_ms: int = NOW, until_ms: int = 0, tenant: str = "") -> Revocation:
    return Revocation(kind, value, at_ms, until_ms, tenant)


@pytest.mark.parametrize(
    ("entry", "identity", "is_refused"),
    [
        (of("user", "ada"), ADA, True),
        (of("user", "ada"), Identity("ada", issued_ms=NOW), True),  # in the same moment: before
        (of("user", "ada"), Identity("ada", issued_ms=NOW + 1), False),
        (of("user", "ada"), Identity("ada"), True),  # does not say when
        (of("user", "billing"), SERVICE, True),
        (of("user", "bob"), ADA, False),
        (of("user", "ada", tenant="acme"), ADA, False),
        (of("user", "ada"), Identity("ada", "acme", issued_ms=1), False),
        (of("user", "ada", tenant="acme"), Identity("ada", "acme", issued_ms=1), True),
        (of("user", ""), Identity(), False),  # who is anonymous is nobody in particular
        (of("token", "t1"), ADA, True),
        (of("token", "t1"), Identity("bob", "acme", issued_ms=NOW + 1, token_id="t1"), True),
        (of("token", "t2"), ADA, False),
        (of("token", ""), SERVICE, False),
        (of("key", "k1"), SERVICE, True),
        (of("key", "t1"), ADA, False),
    ],
)
def test_a_revocation_refuses_those_whom_it_is_about(
    entry: Revocation, identity: Identity, is_refused: bool
) -> None:
    refused = table(entry).check(identity, NOW + 5)
    assert (refused is not None) is is_refused
    if refused is not None:
        assert (refused.name, refused.retry) == ("revoked", "never")
        assert entry.is_about(identity)


def test_where_nothing_was_revoked_nobody_is_refused() -> None:
    assert table().check(ADA, NOW) is None


def test_who_is_told_hears_what_of_it_was_revoked() -> None:
    revocations = table(of("key", "k1"))
    refused = revocations.check(SERVICE, NOW)
    assert refused is not None
    assert refused.message == "this API key was revoked"


def test_of_a_user_newer_credentials_are_refused_where_that_was_said() -> None:
    newer = Identity("ada", issued_ms=NOW + 60_000)
    revocations = table(of("user", "ada"))
    assert revocations.check(newer, NOW + 60_000) is None
    assert revocations.add(Revocation("user", "ada", NOW + 1, 0, also_new=True)).also_new
    assert revocations.check(newer, NOW + 60_000) is not None


def test_it_is_over_with_its_time() -> None:
    revocations = table(of("token", "t1", until_ms=NOW + 100), of("token", "t2"))
    assert revocations.check(ADA, NOW + 99) is not None
    assert revocations.check(ADA, NOW + 100) is None
    assert [entry.value for entry in revocations.in_force(NOW + 100)] == ["t2"]
    revocations.forget(NOW + 100)
    assert [entry.value for entry in revocations.all()] == ["t2"]


def test_what_is_taken_back_refuses_nobody_and_is_remembered() -> None:
    revocations = table(of("token", "t1", until_ms=NOW + 100), of("user", "ada"))
    lifted = revocations.lift(("token", "", "t1"), NOW)
    assert lifted == Revocation("token", "t1", NOW + 1, NOW + 100, is_lifted=True)
    forever = revocations.lift(("user", "", "ada"), NOW + 7)
    assert forever is not None
    assert (forever.at_ms, forever.until_ms) == (NOW + 7, NOW + 7 + LIFTED_MS)
    assert revocations.check(ADA, NOW + 8) is None
    assert revocations.in_force(NOW + 8) == []
    assert len(revocations) == 2
    assert revocations.lift(("token", "", "t1"), NOW + 8) is None  # it is already
    assert revocations.lift(("token", "", "t3"), NOW + 8) is None


def test_what_is_over_cannot_be_taken_back() -> None:
    revocations = table(of("token", "t1", until_ms=NOW + 100))
    assert revocations.lift(("token", "", "t1"), NOW + 100) is None


def test_revoking_again_never_makes_it_less() -> None:
    revocations = table(Revocation("user", "ada", NOW, 0, also_new=True))
    again = revocations.add(of("user", "ada", NOW - 500, NOW + 100))  # a clock that went back
    assert again == Revocation("user", "ada", NOW + 1, 0, also_new=True)
    revocations = table(of("user", "ada", until_ms=NOW + 100))
    assert revocations.add(of("user", "ada", NOW, NOW + 50)).until_ms == NOW + 100
    assert revocations.add(of("user", "ada", NOW, NOW + 500)).until_ms == NOW + 500


def test_revoking_what_was_taken_back_or_is_over_begins_anew() -> None:
    revocations = table(Revocation("user", "ada", NOW, 0, also_new=True))
    revocations.lift(("user", "", "ada"), NOW)
    assert revocations.add(of("user", "ada", NOW, NOW + 100)) == of("user", "ada", NOW + 2, NOW + 100)
    assert revocations.add(of("user", "ada", NOW + 200, NOW + 300)) == of("user", "ada", NOW + 200, NOW + 300)


def test_there_is_a_bound_and_nothing_is_dropped_to_keep_it() -> None:
    revocations = table(of("token", "t1"), of("token", "t2", until_ms=NOW + 100), most=2)
    with pytest.raises(TooMany, match=r"2 revocations are kept.*max_revocations.*unrevoke some"):
        revocations.add(of("token", "t3"))
    assert [entry.value for entry in revocations.all()] == ["t1", "t2"]
    revocations.add(of("token", "t1", NOW + 1))  # one that is there
    revocations.add(of("token", "t3", NOW + 100))  # t2 is over
    assert [entry.value for entry in revocations.all()] == ["t1", "t3"]


def test_what_others_have_revoked_counts_beyond_the_bound_but_not_without_end() -> None:
    revocations = table(most=1)
    entries = [of("token", str(number)) for number in range(MOST_OF_OTHERS + 1)]
    assert len(revocations.merge(entries[1:], NOW)) == MOST_OF_OTHERS
    with pytest.raises(TooMany, match="more than 1 × 8"):
        revocations.merge(entries, NOW)
    assert len(revocations) == MOST_OF_OTHERS


def test_only_news_are_told_on_and_what_is_over_is_none() -> None:
    old, new = of("token", "t1"), of("token", "t1", NOW + 5)
    over = of("token", "t2", until_ms=NOW + 1)
    revocations = table(old)
    assert revocations.merge([old, new, over, old], NOW + 10) == [new]
    assert revocations.merge([old, new, over], NOW + 10) == []
    assert revocations.all() == [new]


def test_of_one_moment_the_one_that_refuses_more_counts() -> None:
    lifted = Revocation("user", "ada", NOW, NOW + 100, is_lifted=True)
    brief, total = of("user", "ada", NOW, NOW + 100), Revocation("user", "ada", NOW, NOW + 50, also_new=True)
    ever = Revocation("user", "ada", NOW, 0, also_new=True)
    for order in permutations([lifted, brief, total, ever]):
        revocations = table()
        revocations.merge(order, NOW)
        assert revocations.all() == [ever]


_entries = st.lists(
    st.builds(
        Revocation,
        st.sampled_from(["user", "token", "key"]),
        st.sampled_from(["a", "b"]),
        st.integers(0, 5),
        st.sampled_from([0, 50, 60]),
        st.sampled_from(["", "acme"]),
        st.booleans(),
        st.booleans(),
    ),
    max_size=12,
)


@given(_entries, _entries, st.randoms())
def test_tables_become_one_in_whatever_order_they_meet(
    left: list[Revocation], right: list[Revocation], chance: object
) -> None:
    one, other, shuffled = table(most=99), table(most=99), [*left, *right, *left]
    chance.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis' Random
    one.merge(left, 10)
    other.merge(right, 10)
    one.merge(other.all(), 10)
    other.merge(one.all(), 10)
    third = table(most=99)
    for entry in shuffled:
        third.merge([entry], 10)
    assert one.all() == other.all() == third.all()


def test_a_value_has_a_bound_where_it_comes_from_others() -> None:
    said = msgspec.json.encode(of("user", "x" * (MAX_VALUE_CHARACTERS + 1)))
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(said, type=Revocation)
