"""S1, S17, S18: tokens, to the authority that sessions ask. Only what the holder of a key has signed is believed.

Seeds are good tokens of all kinds of keys, and bad ones. Whatever is made of them is refused, or means what was
signed: base64 has more than one way to write the same bytes, so a changed token may still be the same one.
"""

import base64
import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jwt
import structlog
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from triode_broker.auth.authority import Authority
from triode_broker.config import Auth, Config, Permission, TokenKey
from triode_broker.core.identity import Arrival, Identity
from triode_protocol.codec import Refused

from tests.fuzz.running import Run, Target

NOW_MS = 1_800_000_000_000
SECRET = "a secret of the fuzzers that is long enough for all of them: 64 bytes"
SIGNED: dict[str, Any] = {"sub": "alice", "tenant": "acme", "iat": NOW_MS // 1000, "exp": NOW_MS // 1000 + 60}
ARRIVAL = Arrival("192.0.2.1")

_RSA = rsa.generate_private_key(65_537, 2_048)
_EC = ec.generate_private_key(ec.SECP256R1())
_ED = ed25519.Ed25519PrivateKey.generate()


def public(key: Any) -> str:
    """In PEM."""
    info = serialization.PublicFormat.SubjectPublicKeyInfo
    return str(key.public_key().public_bytes(serialization.Encoding.PEM, info).decode())


def part(fields: object) -> bytes:
    return base64.urlsafe_b64encode(json.dumps(fields).encode()).rstrip(b"=")


ENVIRON = {"HS": SECRET, "RS": public(_RSA), "ES": public(_EC), "ED": public(_ED)}
KEYS = (
    TokenKey(name="hs", algorithm="HS256", kid="hs", key_env="HS"),
    TokenKey(name="hs5", algorithm="HS512", key_env="HS"),
    TokenKey(name="rs", algorithm="RS256", kid="rs", key_env="RS", issuer="https://a.example", audience="triode"),
    TokenKey(name="es", algorithm="ES256", kid="es", key_env="ES"),
    TokenKey(name="ed", algorithm="EdDSA", kid="ed", key_env="ED"),
)
CONFIG = Config(tokens=KEYS, auth=Auth(), permissions=(Permission(subscribe=("rooms/{user}/#",)),))
WITH_ISSUER = {**SIGNED, "iss": "https://a.example", "aud": ["triode"]}
GOOD = [
    jwt.encode(SIGNED, SECRET, "HS256", {"kid": "hs"}),
    jwt.encode({**SIGNED, "permissions": {"publish": ["a/{user}"]}, "roles": ["x"]}, SECRET, "HS512"),
    jwt.encode(WITH_ISSUER, _RSA, "RS256", {"kid": "rs"}),
    jwt.encode(SIGNED, _EC, "ES256", {"kid": "es"}),
    jwt.encode(SIGNED, _ED, "EdDSA", {"kid": "ed"}),
]
BAD = [
    part({"alg": "none"}) + b"." + part(SIGNED) + b".",
    part({"alg": "HS256", "kid": "rs", "jku": "https://evil.example"}) + b"." + part(SIGNED) + b".AAAA",
    part({"alg": "HS256", "kid": "hs"}) + b"." + part({**SIGNED, "exp": 10**400}) + b".AAAA",
    b"",
    b"tk_service_0123456789abcdef",
]


@contextmanager
def begin(chance: random.Random) -> Iterator[Run]:
    log = structlog.wrap_logger(structlog.ReturnLogger())  # writes nothing, and lines are made as in a broker
    authority = Authority(CONFIG, log, lambda: NOW_MS, flush=lambda: None, environ=ENVIRON)

    def run(data: bytes, chance: random.Random) -> str:
        answers: list[Identity | Refused] = []
        authority.ask(data.decode("utf-8", "replace"), ARRIVAL, answers.append)
        (answer,) = answers
        if isinstance(answer, Refused):
            return answer.name
        assert (answer.user, answer.tenant, answer.method) == ("alice", "acme", "token")
        assert answer.expires_ms == SIGNED["exp"] * 1000
        assert not answer.rights.may("subscribe", "rooms/bob/1")
        return "taken"

    yield run


TOKENS = Target("tokens", [*(token.encode() for token in GOOD), *BAD], begin, 5_000)
