"""Rereading: what of settings that were read again is taken, and what waits for the next start.

Knows finished `Config`s, and nothing of who takes them. The surprising decision: rules for topics are taken whole
or not at all. One that would give a topic another storage class, or compaction, would leave its messages where
nobody looks for them; and a part of a list of rules is another list.
"""

from collections.abc import Iterator, Sequence

from triode_protocol.topics import covers, overlap

from triode_broker.config import DEAD_LETTER_RULE, DELIVERY_OVERHEAD_BYTES, EVENTS_RULE, Config, TopicRule
from triode_broker.config.effects import effect_of, names, put, value_of

#: What holds behind the rules of the settings.
_DEFAULTS = (DEAD_LETTER_RULE, EVENTS_RULE, TopicRule(filter="#"))


def changed(in_force: Config, read: Config) -> list[str]:
    """The names of settings that are others now."""
    return [name for name in names(Config) if value_of(read, name) != value_of(in_force, name)]


def need_a_restart(in_force: Config, read: Config) -> list[str]:
    """Those of them that wait."""
    held = dict(_held_back(in_force, read))
    return [name for name in changed(in_force, read) if effect_of(name) == "restart" or name in held]


def why_it_waits(in_force: Config, read: Config) -> dict[str, str]:
    """Of those that could be taken otherwise."""
    waiting = need_a_restart(in_force, read)
    return {name: why for name, why in _held_back(in_force, read) if name in waiting}


def taken(in_force: Config, read: Config) -> Config:
    """What is in force once `read` was taken."""
    waiting = frozenset(need_a_restart(in_force, read))
    changes = {name: value_of(read, name) for name in changed(in_force, read) if name not in waiting}
    config: Config = put(in_force, changes)
    return config


def _held_back(in_force: Config, read: Config) -> Iterator[tuple[str, str]]:
    """What can be taken in general and not this time, and why."""
    for old, new in _moves(in_force.topics, read.topics):
        yield (
            "topics",
            f"topics that {new.filter} and {old.filter} match would change their storage, or compaction",
        )
        break
    if not in_force.cluster_listen:
        yield "seeds", "this node is in no cluster"
    if in_force.proxy_protocol and not read.trusted_proxies:
        yield "trusted_proxies", "only these can connect, while connections begin with a PROXY header"
    if read.limits.max_packet_bytes + DELIVERY_OVERHEAD_BYTES > in_force.limits.max_frame_bytes:
        yield (
            "limits.max_packet_bytes",
            "its packets would not fit into frames before limits.max_frame_bytes rises",
        )
    for table in ("tls", "cluster_tls"):
        old_tls, new_tls = getattr(in_force, table), getattr(read, table)
        if bool(old_tls.certificate) != bool(new_tls.certificate):
            for name in ("certificate", "key", "client_ca", "client_certificates"):
                yield f"{table}.{name}", "a listener keeps to TLS, or to plain text"
    if bool(in_force.cluster_tls.client_ca) != bool(read.cluster_tls.client_ca):
        yield "cluster_tls.client_ca", "nodes would be recognised in another way"


def _moves(old: Sequence[TopicRule], new: Sequence[TopicRule]) -> Iterator[tuple[TopicRule, TopicRule]]:
    """Pairs of rules, before and after, that may both decide where a topic is kept, and decide otherwise.

    May: that a rule before it in its list takes all of its topics away is seen, that several together do is not.
    """
    befores, afters = _deciding(old), _deciding(new)
    if [_class(rule) for rule in befores] == [_class(rule) for rule in afters]:
        return
    for before in befores:
        for after in afters:
            if _class(before)[1:] != _class(after)[1:] and _meet(before, after, befores, afters):
                yield before, after


def _class(rule: TopicRule) -> tuple[str, str, bool]:
    """Its topics, and where they are kept: those of the broker's own are kept with the names they are of."""
    return rule.filter, "" if rule.filter.startswith("$") else rule.storage, rule.compact


def _deciding(rules: Sequence[TopicRule]) -> list[TopicRule]:
    """Those that a topic can come to."""
    found: list[TopicRule] = []
    for rule in (*rules, *_DEFAULTS):
        if not any(covers(earlier.filter, rule.filter) for earlier in found):
            found.append(rule)
    return found


def _meet(before: TopicRule, after: TopicRule, befores: Sequence[TopicRule], afters: Sequence[TopicRule]) -> bool:
    """Whether one topic may come to both."""
    if not overlap(before.filter, after.filter):
        return False
    earlier = [*befores[: befores.index(before)], *afters[: afters.index(after)]]
    return not any(covers(rule.filter, before.filter) or covers(rule.filter, after.filter) for rule in earlier)
