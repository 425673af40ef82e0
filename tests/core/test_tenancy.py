"""What a node keeps for each tenant stays bounded, and nothing that was counted is lost."""

import gc

import pytest
from triode_broker.core.tenancy import MAX_TOPICS, OTHERS, Counts, Tenants
from triode_protocol.codec import Refused
from triode_protocol.errors import ErrorName


def passing(own: str) -> None:
    """A check that lets everything in."""


def test_tenant_is_the_same_for_all_who_hold_it() -> None:
    """One row, one table of topics."""
    tenants = Tenants()
    first = tenants.of("acme")
    assert tenants.of("acme") is first
    assert tenants.of("other") is not first
    assert tenants.of("").name == ""


@pytest.mark.parametrize("name", ["a/b", "+", "a:b"])
def test_what_would_be_part_of_another_tenant_is_none(name: str) -> None:
    """S23: whoever lets it in has not looked."""
    with pytest.raises(ValueError, match="not the name of a tenant"):
        Tenants().of(name)


def test_topics_are_let_in_once() -> None:
    """Then the table answers."""
    tenant = Tenants().of("acme")
    assert tenant.let_in("a/b", passing) == "$t:acme/a/b"
    assert tenant.topics == {"a/b": "$t:acme/a/b"}
    assert Tenants().of("").let_in("a/b", passing) == "a/b"


def test_topic_that_is_refused_is_not_let_in() -> None:
    """Nor remembered."""

    def refuse(own: str) -> None:
        raise Refused(ErrorName.BAD_TOPIC, "no")

    tenant = Tenants().of("acme")
    with pytest.raises(Refused):
        tenant.let_in("$t:b/x", refuse)
    assert tenant.topics == {}


def test_flood_of_topics_is_forgotten() -> None:
    """S8"""
    tenant = Tenants().of("acme")
    for number in range(MAX_TOPICS + 1):
        tenant.let_in(f"t/{number}", passing)
    assert list(tenant.topics) == [f"t/{MAX_TOPICS}"]


def test_counts_stay_when_nobody_is_there() -> None:
    """Since the start of the node."""
    tenants = Tenants()
    tenants.of("acme").counts.delivered += 2
    gc.collect()
    tenants.of("acme").counts.delivered += 1
    tenants.of("").counts.delivered += 4
    assert tenants.rows() == {"": Counts(delivered=4), "acme": Counts(delivered=3)}
    assert tenants.delivered == 7


def test_what_is_done_for_nobody_makes_no_row() -> None:
    """Topics of other nodes' tenants pass here too."""
    tenants = Tenants()
    tenants.counts_of("a/b").delivered += 1
    acme = tenants.of("acme")
    assert tenants.counts_of("acme") is acme.counts
    assert tenants.counts_of("") is tenants.default.counts
    assert tenants.rows() == {"": Counts(), "acme": Counts()}


def test_beyond_the_bound_who_is_gone_counts_among_the_others() -> None:
    """Many tenants cost no more than so many rows."""
    tenants = Tenants(max_rows=3)
    held = tenants.of("a")
    held.counts.publishes += 1
    tenants.of("b").counts.publishes += 2
    gc.collect()
    newcomer = tenants.of("c")
    newcomer.counts.publishes += 4
    crowd = [tenants.of("d"), tenants.of("e")]
    for tenant in crowd:
        tenant.counts.publishes += 8
    assert tenants.rows() == {
        "": Counts(),
        "a": Counts(publishes=1),
        "c": Counts(publishes=4),
        OTHERS: Counts(publishes=2 + 8 + 8),
    }
    assert [tenant.name for tenant in crowd] == ["d", "e"]
    assert crowd[0].topics is not crowd[1].topics


def test_rows_are_given_up_one_by_one() -> None:
    """And who holds none goes on among the others when it comes again."""
    tenants = Tenants(max_rows=2)
    for name in ("a", "b", "c"):
        tenants.of(name).counts.refused += 1
        gc.collect()
    assert tenants.rows() == {"": Counts(), "c": Counts(refused=1), OTHERS: Counts(refused=2)}
