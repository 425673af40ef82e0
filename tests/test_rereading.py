"""Settings read again: which are taken, which wait, what nodes compare; in all combinations (S14)."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from triode_broker.config import Auth, Config, Limits, Quota, Tls, TokenKey, TopicRule
from triode_broker.config.digest import digest, is_own, shared
from triode_broker.config.effects import EFFECTS, alive, effect_of, follow, names, put, value_of
from triode_broker.digesting import as_shared, digest_of
from triode_broker.rereading import changed, need_a_restart, taken, why_it_waits

RULES = [
    TopicRule("jobs/#", "disk"),
    TopicRule("jobs/#", "disk", retention_messages=5),
    TopicRule("jobs/#"),
    TopicRule("jobs/a", ttl_seconds=3),
    TopicRule("state/#", compact=True),
    TopicRule("#", retention_seconds=9),
    TopicRule("+/b", "disk"),
]
CONFIGS = st.builds(
    Config,
    listen=st.sampled_from(["127.0.0.1:1", "127.0.0.1:2"]),
    cluster_listen=st.sampled_from(["", "127.0.0.1:3"]),
    log_level=st.sampled_from(["info", "debug"]),
    origins=st.sampled_from([(), ("https://a.example",)]),
    proxy_protocol=st.booleans(),
    trusted_proxies=st.sampled_from([(), ("10.0.0.0/8",)]),
    auth=st.builds(Auth, leeway_seconds=st.integers(0, 1), jwks_refresh_seconds=st.integers(1, 2)),
    quotas=st.sampled_from([(), (Quota(publishes_per_second=1),)]),
    tls=st.sampled_from([Tls(), Tls("a.pem"), Tls("b.pem", "b.key")]),
    limits=st.builds(
        Limits,
        ping_ms=st.integers(1, 2),
        max_history_messages=st.integers(1, 2),
        max_packet_bytes=st.sampled_from([1_000, 60_000]),
        max_frame_bytes=st.sampled_from([5_000, 100_000]),
    ),
    topics=st.lists(st.sampled_from(RULES), max_size=3).map(tuple),
)


def test_every_setting_has_its_time() -> None:
    found = {name: effect_of(name) for name in names(Config)}
    assert set(found.values()) == set(EFFECTS)
    assert {name for name, effect in found.items() if name.startswith("limits.") and effect == "restart"} == {
        f"limits.{name}"
        for name in (
            *("max_frame_bytes", "ping_ms", "max_peer_message_bytes", "peer_ping_ms", "peer_silent_ms"),
            *("peer_closed_ms", "max_callouts"),
        )
    }
    assert effect_of("what.nobody.knows") == "restart"


@settings(max_examples=150, deadline=None)
@given(CONFIGS, CONFIGS)
def test_what_is_taken_is_what_a_start_with_the_new_file_would_have(before: Config, after: Config) -> None:
    """But for what waits; and taken once more it is the same."""
    waiting = need_a_restart(before, after)
    result = taken(before, after)
    for name in names(Config):
        wanted = before if name in waiting else after
        assert value_of(result, name) == value_of(wanted, name), name
    assert set(changed(before, result)) | set(waiting) >= set(changed(before, after))
    assert set(why_it_waits(before, after)) <= set(waiting)
    assert taken(result, after) == result
    assert result.limits.max_packet_bytes < result.limits.max_frame_bytes or (
        before.limits.max_packet_bytes >= before.limits.max_frame_bytes
    )
    if before.proxy_protocol and before.trusted_proxies:
        assert result.trusted_proxies


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.sampled_from(RULES), max_size=3).map(tuple),
    st.lists(st.sampled_from(RULES), max_size=3).map(tuple),
    st.lists(st.sampled_from(["jobs", "a", "b", "state"]), min_size=1, max_size=3).map("/".join),
)
def test_no_topic_changes_where_it_is_kept(before: Any, after: Any, topic: str) -> None:
    """Whatever rules are taken: they would leave its messages where nobody looks for them."""
    from triode_broker.core.policy import Policies

    old = Config(topics=before)
    new = taken(old, replace(old, topics=after))
    one, other = Policies(old.topics).of(topic), Policies(new.topics).of(topic)
    assert (one.storage, one.compact) == (other.storage, other.compact)


def test_rules_that_would_move_topics_wait_and_are_named() -> None:
    old = Config(topics=(TopicRule("jobs/#"), TopicRule("#", ttl_seconds=1)))
    new = replace(old, topics=(TopicRule("jobs/#", "disk"), TopicRule("#", ttl_seconds=2)))
    assert need_a_restart(old, new) == ["topics"]
    assert "jobs/#" in why_it_waits(old, new)["topics"]
    for rules in ((TopicRule("jobs/#", ttl_seconds=3),), (), (TopicRule("a"), TopicRule("$dead/#", compact=True))):
        assert need_a_restart(old, replace(old, topics=rules)) == []


def test_settings_that_only_fit_together_wait_together() -> None:
    old = Config(limits=Limits(max_packet_bytes=1_000, max_frame_bytes=3_000))
    new = Config(limits=Limits(max_packet_bytes=4_000, max_frame_bytes=9_000))
    assert need_a_restart(old, new) == ["limits.max_packet_bytes", "limits.max_frame_bytes"]
    assert need_a_restart(Config(), Config(tls=Tls("a.pem", "a.key"))) == ["tls.certificate", "tls.key"]
    assert need_a_restart(Config(tls=Tls("a.pem")), Config(tls=Tls("b.pem"))) == []
    seeds = ("ws://h:7401",)
    assert need_a_restart(Config(), Config(seeds=seeds)) == ["cluster_listen", "cluster_advertise", "seeds"]
    in_cluster = Config(cluster_listen="127.0.0.1:7401")
    assert need_a_restart(in_cluster, replace(in_cluster, seeds=seeds)) == []
    tls = Tls("n.pem", "", "ca.pem")
    assert need_a_restart(Config(cluster_tls=tls), Config(cluster_tls=replace(tls, client_ca=""))) == [
        "cluster_tls.client_ca"
    ]


def test_a_value_is_put_where_its_name_says() -> None:
    made = put(Config(), {"node": "n9", "limits.ping_ms": 7, "auth.leeway_seconds": 8})
    assert (made.node, made.limits.ping_ms, made.auth.leeway_seconds) == ("n9", 7, 8)


def test_limits_of_one_node_are_not_those_of_another() -> None:
    living = alive(Config().limits)
    follow(living, Limits(ping_ms=3))
    assert (living.ping_ms, Config().limits.ping_ms) == (3, Limits().ping_ms)


@pytest.mark.parametrize(
    ("name", "value", "is_seen"),
    [
        ("node", "n7", False),
        ("listen", "127.0.0.1:9", False),
        ("data", "d", False),
        ("tls.certificate", "a.pem", False),
        ("log_level", "debug", False),
        ("cluster", "other", True),
        ("origins", ("https://a.example",), True),
        ("memory_shards", 3, True),
        ("limits.ping_ms", 3, True),
        ("auth.anonymous", True, True),
        ("topics", (TopicRule("a"),), True),
        ("quotas", (Quota(),), True),
    ],
)
def test_the_digest_is_of_what_all_nodes_should_have_alike(name: str, value: Any, is_seen: bool) -> None:
    changed_one = put(Config(), {name: value})
    assert (digest(shared(changed_one)) != digest(shared(Config()))) is is_seen
    assert is_own(name) is not is_seen


def test_secrets_are_compared_by_what_is_in_their_files(tmp_path: Path) -> None:
    """S10: and nothing of them is in what is compared."""
    secret = "a-secret-of-more-than-thirty-two-bytes-in-all"
    for place, content in (("one", secret), ("two", f"{secret}\n"), ("three", "another")):
        (tmp_path / place).write_text(content)

    def with_key(**key: str) -> Config:
        return Config(
            tokens=(TokenKey(algorithm="HS256", **key),), auth=Auth(api_keys_file=key.get("key_file", ""))
        )

    one, two, three = (with_key(key_file=str(tmp_path / name)) for name in ("one", "two", "three"))
    assert digest_of(one, {}) == digest_of(two, {}) != digest_of(three, {})
    told = repr(as_shared(one, {}))
    assert secret not in told
    assert str(tmp_path) not in told
    by_name = with_key(key_env="KEY")
    assert as_shared(by_name, {"KEY": secret}).tokens == as_shared(one, {}).tokens
    assert digest_of(with_key(key_file=str(tmp_path / "none")), {}) == digest_of(with_key(key_file="\0"), {})
