"""Keys, tokens and an authority with a clock and a log of the test's own."""

import base64
import json
from typing import Any

import jwt
from attrs import define, field
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from triode_broker.auth.authority import Authority
from triode_broker.config import Config
from triode_broker.core.identity import UNKNOWN, Arrival, Identity
from triode_protocol.codec import Refused

NOW = 1_800_000_000  # seconds
NOW_MS = NOW * 1000
SECRET = "0123456789abcdef" * 4  # as long as HS512 wants it
RSA = rsa.generate_private_key(65_537, 2_048)
OTHER_RSA = rsa.generate_private_key(65_537, 2_048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
PRIVATE: dict[str, Any] = {
    "HS256": SECRET, "HS384": SECRET, "HS512": SECRET, "RS256": RSA, "ES256": EC, "EdDSA": ED
}  # fmt: skip
GOOD: dict[str, Any] = {"sub": "alice", "iat": NOW - 10, "exp": NOW + 600}


def public(key: Any) -> bytes:
    """In PEM."""
    info = serialization.PublicFormat.SubjectPublicKeyInfo
    return bytes(key.public_key().public_bytes(serialization.Encoding.PEM, info))


def private(key: Any) -> bytes:
    """In PEM, not encrypted."""
    form = serialization.PrivateFormat.PKCS8
    return bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))


def environ() -> dict[str, str]:
    """A variable for each algorithm, with what checks its tokens."""
    return {
        name: key if isinstance(key, str) else public(key).decode()
        for name, key in PRIVATE.items()
    }  # fmt: skip


def sign(claims: dict[str, Any], algorithm: str = "HS256", key: Any = None, **header: Any) -> str:
    """A token with these claims."""
    return jwt.encode(claims, PRIVATE[algorithm] if key is None else key, algorithm, header or None)


def part(text: str | dict[str, Any]) -> str:
    """One part of a token, from exactly this text."""
    text = text if isinstance(text, str) else json.dumps(text)
    return base64.urlsafe_b64encode(text.encode("utf-8", "surrogatepass")).rstrip(b"=").decode()


def sign_text(payload: str, header: str = '{"alg":"HS256"}') -> str:
    """A token, well signed with HS256, whose parts are these texts: as no library would write it."""
    algorithm = jwt.get_algorithm_by_name("HS256")
    signed = f"{part(header)}.{part(payload)}".encode()
    signature = algorithm.sign(signed, SECRET.encode())
    return f"{signed.decode()}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


@define
class Lines:
    """A log that is kept."""

    lines: list[dict[str, Any]] = field(factory=list)

    def _add(self, event: str, **values: Any) -> None:
        self.lines.append({"event": event, **values})

    debug = info = warning = error = _add

    def of(self, event: str) -> list[dict[str, Any]]:
        """The lines of one event."""
        return [line for line in self.lines if line["event"] == event]


@define
class Clock:
    """A wall clock that stands still."""

    ms: int = NOW_MS

    def __call__(self) -> int:
        return self.ms


@define
class Door:
    """An authority, and what it has said."""

    authority: Authority
    log: Lines
    clock: Clock
    flushes: list[int]

    def ask(self, token: str, arrival: Arrival = UNKNOWN) -> Identity | Refused:
        """Its answer, which must be there at once."""
        answers: list[Identity | Refused] = []
        self.authority.ask(token, arrival, answers.append)
        (answer,) = answers
        return answer

    def let_in(self, token: str, arrival: Arrival = UNKNOWN) -> Identity:
        """Who it is; fails the test where it is nobody."""
        answer = self.ask(token, arrival)
        assert isinstance(answer, Identity), (answer, self.log.lines)
        return answer

    def refuse(self, token: str, arrival: Arrival = UNKNOWN) -> str:
        """The name of the refusal, and the reason that stands in the log."""
        answer = self.ask(token, arrival)
        assert isinstance(answer, Refused), answer
        (line, *_) = self.log.of("credential_refused")[-1:]
        return f"{answer.name}: {line['reason']}"


def make_door(config: Config, **parts: Any) -> Door:
    """An authority with `config`, on a clock that stands."""
    log, clock, flushes = Lines(), Clock(), list[int]()
    parts = {"environ": environ(), **parts}
    authority = Authority(config, log, clock, flush=lambda: flushes.append(clock.ms), **parts)
    return Door(authority, log, clock, flushes)
