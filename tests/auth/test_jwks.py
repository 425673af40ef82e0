"""Keys of an identity provider: fetched, rotated, kept through an outage; nothing but keys is believed."""

import json
from collections.abc import Mapping
from typing import Any, Literal

import pytest
import trio
from attrs import define, field
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given, settings
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from trio.testing import wait_all_tasks_blocked
from triode_broker.auth.asking import NoReply, Reply
from triode_broker.auth.jwks import parse_keys
from triode_broker.config import Auth, Config, TokenKey
from triode_broker.core.identity import Arrival, Identity
from triode_protocol.codec import Refused

from tests.auth.endpoint import Endpoint, hear_identity, hear_refusal, reply
from tests.auth.making import EC, ED, GOOD, OTHER_RSA, RSA, Door, make_door, sign

WEAK_RSA = rsa.generate_private_key(65_537, 1_024)


def jwk(key: Any, kid: str | None = "k1", **fields: Any) -> dict[str, Any]:
    """The public half of a key, as a provider publishes it."""
    if isinstance(key, rsa.RSAPrivateKey):
        found = RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    elif isinstance(key, ec.EllipticCurvePrivateKey):
        found = ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    else:
        found = OKPAlgorithm.to_jwk(key.public_key(), as_dict=True)
    found.pop("key_ops", None)
    return {**found, **({} if kid is None else {"kid": kid}), **fields}


def document(*keys: dict[str, Any]) -> dict[str, Any]:
    return {"keys": list(keys)}


@define
class Provider:
    """An identity provider without a network, whose documents change."""

    keys: Any = field(factory=lambda: document(jwk(RSA)))
    is_there: bool = True
    asked: int = 0

    async def ask(
        self, url: str, *, body: bytes | None, headers: Mapping[str, str], max_bytes: int, timeout_seconds: float
    ) -> Reply:
        self.asked += 1
        await trio.lowlevel.checkpoint()
        if not self.is_there:
            raise NoReply("not reached: ConnectError")
        return Reply(200, json.dumps(self.keys).encode())


def door_to(provider: Provider, *algorithms: Literal["RS256", "ES256", "EdDSA"], **auth: Any) -> Door:
    rows = tuple(
        TokenKey(algorithm=algorithm, jwks_url="https://id.example/keys") for algorithm in algorithms or ("RS256",)
    )
    return make_door(Config(tokens=rows, auth=Auth(**auth)), ask=provider.ask)


async def test_keys_are_fetched_from_a_real_server(nursery: trio.Nursery) -> None:
    endpoint = await Endpoint(lambda _: reply(document(jwk(RSA), jwk(EC, "k2"), jwk(ED, "k3")))).start(nursery)
    rows = tuple(TokenKey(algorithm=name, jwks_url=endpoint.url) for name in ("RS256", "ES256", "EdDSA"))
    door = make_door(Config(tokens=rows))
    await nursery.start(door.authority.run)
    for algorithm, kid in (("RS256", "k1"), ("ES256", "k2"), ("EdDSA", "k3")):
        assert (await hear_identity(door, sign(GOOD, algorithm, kid=kid))).user == "alice"
    assert len(endpoint.seen) == 1, "one document for all that name it"
    assert endpoint.seen[0].head.startswith("GET /asked HTTP/1.1")


@pytest.mark.parametrize(
    "answer",
    [
        reply(b"", "302 Found", "Location: http://127.0.0.1:1/"),
        reply(document(jwk(RSA)), "500 Oops"),
        reply({"keys": [jwk(RSA, x="y" * 300_000)]}),
        reply(b"<html>"),
        reply({"keys": "x"}),
        reply({"keys": [5, None, {}, {"kty": "RSA"}, {"kty": "RSA", "n": "!", "e": 5}, {"kid": 5}]}),
        reply([]),
        b"",
    ],
)
async def test_what_is_no_list_of_keys_gives_none(nursery: trio.Nursery, answer: bytes) -> None:
    endpoint = await Endpoint(lambda _: answer).start(nursery)
    door = make_door(Config(tokens=(TokenKey(jwks_url=endpoint.url),)))
    await nursery.start(door.authority.run)
    refused = await hear_refusal(door, sign(GOOD, "RS256", kid="k1"))
    assert (refused.name, len(endpoint.seen)) == ("unavailable", 1)
    assert len(door.log.of("jwks_failed")) == 1


@pytest.mark.parametrize(
    "bad",
    [
        jwk(WEAK_RSA),
        jwk(EC),
        jwk(RSA, alg="RS512"),
        jwk(RSA, alg="none"),
        jwk(RSA, use="enc"),
        jwk(RSA, key_ops=["encrypt"]),
        jwk(RSA, key_ops="verify"),
        {**RSAAlgorithm.to_jwk(RSA, as_dict=True), "kid": "k1"},
        {"kty": "oct", "k": "AAAA", "kid": "k1"},
        {"kty": "oct", "k": "AAAA", "kid": "k1", "alg": "RS256"},
    ],
)
async def test_s18_only_public_keys_of_the_configured_algorithm_count(nursery: trio.Nursery, bad: Any) -> None:
    door = door_to(Provider(document(bad)))
    await nursery.start(door.authority.run)
    assert (await hear_refusal(door, sign(GOOD, "RS256", kid="k1"))).name == "unavailable"


def test_the_keys_of_other_curves_are_none() -> None:
    provider = Provider(document(jwk(ec.generate_private_key(ec.SECP384R1()))))
    assert provider.keys["keys"][0]["crv"] == "P-384"
    door = door_to(provider, "ES256")

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(door.authority.run)
            assert (await hear_refusal(door, sign(GOOD, "ES256", kid="k1"))).name == "unavailable"
            nursery.cancel_scope.cancel()

    trio.run(main)


async def test_a_new_key_is_known_at_the_first_token_that_names_it(
    nursery: trio.Nursery, autojump_clock: Any
) -> None:
    provider = Provider()
    door = door_to(provider)
    await nursery.start(door.authority.run)
    assert await hear_identity(door, sign(GOOD, "RS256", kid="k1"))
    provider.keys = document(jwk(OTHER_RSA, "k2"))
    with trio.move_on_after(11):
        await trio.sleep_forever()
    assert await hear_identity(door, sign(GOOD, "RS256", OTHER_RSA, kid="k2"))
    assert provider.asked == 2
    assert "it names a key that none" in door.refuse(sign(GOOD, "RS256", kid="k1")), "it is not published any more"


async def test_s18_unknown_kids_make_one_request_in_ten_seconds(
    nursery: trio.Nursery, autojump_clock: Any
) -> None:
    provider = Provider()
    door = door_to(provider)
    await nursery.start(door.authority.run)
    await hear_identity(door, sign(GOOD, "RS256", kid="k1"))
    for _ in range(3):
        with trio.move_on_after(11):
            await trio.sleep_forever()
        answers: list[Identity | Refused] = []
        for number in range(50):
            door.authority.ask(sign(GOOD, "RS256", kid=f"x{number}"), Arrival(), answers.append)
        assert (await hear_refusal(door, sign(GOOD, "RS256", kid="y"))).name == "unauthorized"
        await wait_all_tasks_blocked()
        assert len(answers) == 50
    assert provider.asked == 4
    assert door.let_in(sign(GOOD, "RS256", kid="k1")).user == "alice"


async def test_old_keys_outlive_an_outage_but_not_for_ever(nursery: trio.Nursery, autojump_clock: Any) -> None:
    provider = Provider()
    door = door_to(provider, jwks_stale_seconds=3_600)
    await nursery.start(door.authority.run)
    good = sign(GOOD, "RS256", kid="k1")
    assert await hear_identity(door, good)
    assert door.authority.degraded() == []
    provider.is_there = False
    with trio.move_on_after(3_000):
        await trio.sleep_forever()
    assert door.let_in(good).user == "alice"
    (trouble,) = door.authority.degraded()
    assert "those that were fetched last are good for" in trouble
    assert trouble.endswith("s: not reached: ConnectError")
    (line,) = door.log.of("jwks_failed")
    assert 0 < line["old_keys_good_for_seconds"] <= 3_600
    with trio.move_on_after(600):
        await trio.sleep_forever()
    (trouble,) = door.authority.degraded()
    assert "too old" in trouble
    assert (await hear_refusal(door, good)).name == "unavailable"
    assert door.authority.degraded() == ["keys of tokens #1: there are none: not reached: ConnectError"]
    assert len(door.log.of("jwks_stale")) == 1
    provider.is_there = True
    with trio.move_on_after(15):
        await trio.sleep_forever()
    assert door.let_in(good).user == "alice"
    assert len(door.log.of("jwks_fetched")) == 2
    assert door.authority.degraded() == []


async def test_a_provider_that_is_not_there_at_the_start_is_asked_again(
    nursery: trio.Nursery, autojump_clock: Any
) -> None:
    provider = Provider(is_there=False)
    door = door_to(provider)
    await nursery.start(door.authority.run)
    good = sign(GOOD, "RS256", kid="k1")
    refused = await hear_refusal(door, good)
    assert (refused.name, refused.retry_after_ms) == ("unavailable", 10_000)
    assert door.authority.degraded() == ["keys of tokens #1: there are none: not reached: ConnectError"]
    provider.is_there = True
    with trio.move_on_after(15):
        await trio.sleep_forever()
    assert door.let_in(good).user == "alice"


async def test_a_provider_that_is_away_keeps_nobody_out_whom_another_key_lets_in(nursery: trio.Nursery) -> None:
    provider = Provider(is_there=False)
    rows = (TokenKey(jwks_url="https://id.example/keys"), TokenKey(key_env="RS256"))
    door = make_door(Config(tokens=rows), ask=provider.ask)
    await nursery.start(door.authority.run)
    assert (await hear_refusal(door, sign(GOOD, "RS256", OTHER_RSA))).name == "unavailable"
    assert door.let_in(sign(GOOD, "RS256")).user == "alice"
    assert (await hear_refusal(door, sign({**GOOD, "exp": 5}, "RS256"))).name == "token_expired"


async def test_keys_are_renewed_ahead(nursery: trio.Nursery, autojump_clock: Any) -> None:
    provider = Provider()
    door = door_to(provider, jwks_refresh_seconds=300)
    await nursery.start(door.authority.run)
    with trio.move_on_after(1_000):
        await trio.sleep_forever()
    assert provider.asked == 4


async def test_tokens_without_a_kid_are_tried_with_the_keys_there_are(nursery: trio.Nursery) -> None:
    door = door_to(Provider(document(jwk(OTHER_RSA, None), jwk(RSA, "k2"))))
    await nursery.start(door.authority.run)
    assert await hear_identity(door, sign(GOOD, "RS256"))
    assert door.let_in(sign(GOOD, "RS256", OTHER_RSA)).user == "alice"
    assert "signature" in door.refuse(sign(GOOD, "RS256", kid="k2", key=OTHER_RSA))


def test_before_the_node_runs_keys_are_not_known() -> None:
    refused = door_to(Provider()).ask(sign(GOOD, "RS256", kid="k1"))
    assert isinstance(refused, Refused)
    assert refused.name == "unavailable"


async def test_s1_a_fault_in_fetching_costs_the_keys_and_not_the_node(
    nursery: trio.Nursery, autojump_clock: Any
) -> None:
    provider = Provider()

    async def ask(*_: object, **__: object) -> Reply:
        raise RuntimeError("a fault")

    door = make_door(Config(tokens=(TokenKey(jwks_url="https://id.example/keys"),)), ask=ask)
    await nursery.start(door.authority.run)
    assert (await hear_refusal(door, sign(GOOD, "RS256", kid="k1"))).name == "unavailable"
    (line,) = door.log.of("jwks_failed")
    assert line["reason"] == "a fault of ours: RuntimeError"
    assert provider.asked == 0


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["AQAB", "RSA", "sig", "AA"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(
    st.sampled_from([jwk(RSA), jwk(EC), jwk(ED)]),
    st.dictionaries(
        st.sampled_from(["kty", "crv", "n", "e", "x", "y", "kid", "use", "alg", "key_ops", "oth"]), VALUES
    ),
)
@settings(max_examples=200)
def test_s1_whatever_a_key_looks_like_it_is_one_or_none(good: dict[str, Any], changes: dict[str, Any]) -> None:
    body = json.dumps({"keys": [{**good, **changes}]}).encode()
    try:
        found = parse_keys(body, ["ES256", "EdDSA", "RS256"])
    except NoReply:
        return
    assert all(isinstance(kid, str) for _, kid in found)


def test_a_broker_without_rules_says_so_at_its_start() -> None:
    async def lines(config: Config) -> list[dict[str, Any]]:
        door = make_door(config)
        async with trio.open_nursery() as nursery:
            await nursery.start(door.authority.run)
            nursery.cancel_scope.cancel()
        return door.log.of("no_permissions")

    assert trio.run(lines, Config(auth=Auth(anonymous=True)))
    assert not trio.run(lines, Config())
