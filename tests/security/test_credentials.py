"""Each kind of credential at a real broker: who it lets in, what they may, and that nobody comes in beside it."""

import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio_websocket
import triode
from attrs import define
from triode_broker.auth.api_keys import make_key, write_keys

from tests.auth.endpoint import Endpoint, Seen, reply
from tests.auth.making import EC, ED, RSA, SECRET, public, sign
from tests.auth.test_jwks import document, jwk
from tests.cli.programs import PATIENCE_SECONDS, BrokerAt

FAR = 4_000_000_000  # an `exp` of the year 2096; what the broker makes of it is bounded


@define
class House:
    """A broker that takes every kind of credential, and whom it asks."""

    broker: BrokerAt
    asked: Endpoint
    api_key: str
    revoked_key: str

    async def may(self, token: str, topic: str) -> bool:
        """Whether its bearer comes in and may publish there."""
        async with triode.connect(self.broker.url, token=token, wait_seconds=PATIENCE_SECONDS) as client:
            try:
                await client.publish(topic, 1)
            except triode.Refused as error:
                return str(error.name) != "forbidden"
        return True

    async def refusal(self, token: str) -> str:
        """What is answered to `connect` with it."""
        with trio.fail_after(PATIENCE_SECONDS):
            async with trio_websocket.open_websocket_url(self.broker.url) as line:
                await line.send_message(json.dumps({"type": "connect", "id": 1, "token": token}))
                answer = json.loads(await line.get_message())
        assert (answer["type"], answer["id"]) == ("error", 1), answer
        return str(answer["name"])


def who(seen: Seen) -> bytes:
    """The operator's endpoint; also a provider of keys, for who does not ask a question."""
    if not seen.body:
        return reply(document(jwk(RSA, "r1"), jwk(ED, "e1")))
    if seen.json["token"] == "session-of-eve":
        return reply({"user": "eve", "roles": ["member"], "permissions": {"deny_publish": ["rooms/eve/x"]}})
    return reply(b"", "403 Forbidden")


@pytest.fixture
async def house(nursery: trio.Nursery, tmp_path: Path) -> AsyncIterator[House]:
    """One of them."""
    asked = await Endpoint(who).start(nursery)
    key, text = make_key(user="billing", roles=("service",), permissions={"publish": ["invoices/#"]})
    gone, gone_text = make_key(user="billing", revoked_ms=1)
    write_keys(str(tmp_path / "keys"), lambda _: [key, gone])
    secret, pem = tmp_path / "secret", tmp_path / "public.pem"
    secret.touch(0o600)
    secret.write_text(SECRET)
    pem.write_bytes(public(EC))
    settings: dict[str, Any] = {
        "auth": {"anonymous": True, "api_keys_file": str(tmp_path / "keys"), "callout_url": asked.url},
        "tokens": [
            {"algorithm": "HS256", "key_file": str(secret)},
            {"algorithm": "ES256", "key_file": str(pem), "issuer": "https://id.example/"},
            {"algorithm": "RS256", "jwks_url": asked.url},
            {"algorithm": "EdDSA", "jwks_url": asked.url},
        ],
        "permissions": [
            {"publish": ["rooms/{user}/#"]},
            {"role": "anonymous", "publish": ["guests/#"]},
            {"role": "member", "publish": ["members"]},
            {"role": "service", "publish": ["services"]},
        ],
    }
    broker = BrokerAt(nursery, settings)
    await broker.start()
    yield House(broker, asked, text, gone_text)
    await broker.stop()


@pytest.mark.parametrize(
    ("algorithm", "claims", "header"),
    [
        ("HS256", {}, {}),
        ("ES256", {"iss": "https://id.example/"}, {}),
        ("RS256", {}, {"kid": "r1"}),
        ("EdDSA", {}, {"kid": "e1"}),
    ],
)
async def test_a_token_lets_its_user_in(
    house: House, algorithm: str, claims: dict[str, Any], header: dict[str, Any]
) -> None:
    said = {"sub": "ada", "exp": FAR, "iat": int(time.time()), **claims}
    token = sign(said, algorithm, **header)
    assert await house.may(token, "rooms/ada/1")
    assert not await house.may(token, "rooms/bob/1")
    assert not await house.may(token, "guests/1")
    assert await house.may(sign({**said, "roles": ["member"]}, algorithm, **header), "members")


async def test_an_api_key_lets_a_service_in(house: House) -> None:
    for topic, may in (("invoices/1", True), ("services", True), ("rooms/billing/1", True), ("members", False)):
        assert await house.may(house.api_key, topic) == may


async def test_an_endpoint_lets_in_whom_it_knows(house: House) -> None:
    for topic, may in (("members", True), ("rooms/eve/1", True), ("rooms/eve/x", False), ("services", False)):
        assert await house.may("session-of-eve", topic) == may
    assert await house.refusal("session-of-mallory") == "unauthorized"


async def test_s15_who_shows_nothing_may_what_anonymous_may(house: House) -> None:
    assert await house.may("", "guests/1")
    assert not await house.may("", "rooms/x/1")
    assert not await house.may("", "members")


async def test_s17_a_wrong_credential_lets_nobody_in_not_even_as_anonymous(house: House) -> None:
    now = int(time.time())
    good = {"sub": "ada", "exp": now + 600}
    wrong = {
        "revoked": house.revoked_key,
        "token_expired": sign({"sub": "ada", "exp": now - 600}),
        "unauthorized": sign(good, "HS256", SECRET[::-1]),
    }
    assert {name: await house.refusal(token) for name, token in wrong.items()} == {name: name for name in wrong}
    for token in (
        sign(good, "RS256", kid="unknown"),
        sign(good, "ES256"),
        sign(good, "HS512"),
        f"{sign(good)[:-3]}AAA",
        house.api_key[:-1],
        "tk_",
    ):
        assert await house.refusal(token) == "unauthorized"
