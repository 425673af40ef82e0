"""Keys that tokens are checked with: read from PEM, secrets and JWKs, and refused where they are too weak.

Knows PyJWT and cryptography, no token. The surprising decision: a key is bound to its one algorithm here, at the
start, and a private key where a public one belongs is refused: the broker must not be able to sign (RFC 8725 3.1,
3.2, 3.5).
"""

from collections.abc import Mapping
from typing import Any, Final

import attrs
import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt.algorithms import get_default_algorithms

#: Bytes of a secret: those of the hash that it is used with (RFC 7518 3.2).
SECRET_BYTES: Final = {"HS256": 32, "HS384": 48, "HS512": 64}
MIN_RSA_BITS: Final = 2_048  # RFC 7518 3.3
MAX_RSA_BITS: Final = 8_192  # a check costs the square of it
#: What a JWK of each algorithm is.
_KINDS: Final = {"RS256": ("RSA", None), "ES256": ("EC", "P-256"), "EdDSA": ("OKP", "Ed25519")}
_WORDS: Final = {"RS256": "an RSA key", "ES256": "a key on the curve P-256", "EdDSA": "an Ed25519 key"}


class BadKey(Exception):
    """Why something cannot be a key; ends a sentence that began with its name."""


@attrs.frozen(eq=False)
class SigningKey:
    """One key, for one algorithm. Its value stays out of every text (S10)."""

    algorithm: str
    value: Any = attrs.field(repr=False)
    # One algorithm is known to this reader: there is no other to be talked into. Made once: it takes 5 µs.
    _reader: jwt.PyJWS = attrs.field(
        init=False, repr=False, default=attrs.Factory(lambda key: jwt.PyJWS([key.algorithm]), takes_self=True)
    )

    def is_same(self, other: "SigningKey") -> bool:
        """Whether the other is this one, read another time."""
        return self.algorithm == other.algorithm and bool(self.value == other.value)

    def payload(self, token: str) -> bytes | None:
        """What the token says, if this key has signed it; whatever algorithm the token names."""
        try:
            found = self._reader.decode(token, self.value, algorithms=[self.algorithm])
        except jwt.InvalidTokenError:
            return None
        return bytes(found)


def from_text(algorithm: str, text: bytes) -> SigningKey:
    """A secret (HS…) or a public key in PEM. Raises BadKey."""
    return _from_secret(algorithm, text.strip()) if algorithm in SECRET_BYTES else _from_pem(algorithm, text)


def _from_secret(algorithm: str, secret: bytes) -> SigningKey:
    if b"-----BEGIN" in secret:  # a public key as a secret: everybody could sign
        raise BadKey(f"holds a key in PEM, and {algorithm} takes a secret")
    if len(secret) < SECRET_BYTES[algorithm]:
        least = f"{algorithm} needs at least {SECRET_BYTES[algorithm]} random ones"
        raise BadKey(f"holds {len(secret)} bytes, and {least}: triode token generate-secret makes some")
    try:
        return SigningKey(algorithm, get_default_algorithms()[algorithm].prepare_key(secret))
    except jwt.InvalidKeyError as error:
        raise BadKey(f"cannot be a secret: {error}") from None


def _from_pem(algorithm: str, text: bytes) -> SigningKey:
    if b"PRIVATE KEY-----" in text:
        how = "openssl pkey -in FILE -pubout writes it"
        raise BadKey(f"holds a private key: give the broker the public one ({how}), and keep this where you sign")
    try:
        key = load_pem_public_key(text)
    except (ValueError, UnsupportedAlgorithm):
        raise BadKey("is not a public key in PEM (-----BEGIN PUBLIC KEY-----)") from None
    return _checked(algorithm, key)


def from_jwk(algorithm: str, jwk: Mapping[str, Any]) -> SigningKey:
    """A key of a JWKS document. Raises BadKey where it is none for this algorithm, or not for signatures."""
    kind, curve = _KINDS[algorithm]
    if jwk.get("kty") != kind or (curve is not None and jwk.get("crv") != curve):
        raise BadKey(f"is not {_WORDS[algorithm]}")
    if jwk.get("alg", algorithm) != algorithm:
        raise BadKey("is for another algorithm")
    operations = jwk.get("key_ops", ["verify"])
    if jwk.get("use", "sig") != "sig" or not isinstance(operations, list) or "verify" not in operations:
        raise BadKey("is not for signatures")
    if "d" in jwk:
        raise BadKey("is a private key, which nobody should publish")
    try:
        key = jwt.PyJWK.from_dict(dict(jwk), algorithm).key
    except (jwt.PyJWTError, ValueError, TypeError, KeyError, AttributeError, UnsupportedAlgorithm):
        raise BadKey("is no key") from None
    return _checked(algorithm, key)


def _checked(algorithm: str, key: object) -> SigningKey:
    match key:
        case RSAPublicKey() if algorithm == "RS256":
            if not MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
                raise BadKey(f"has {key.key_size} bits; RSA takes {MIN_RSA_BITS} to {MAX_RSA_BITS}")
        case EllipticCurvePublicKey() if algorithm == "ES256" and isinstance(key.curve, SECP256R1):
            pass
        case Ed25519PublicKey() if algorithm == "EdDSA":
            pass
        case _:
            raise BadKey(f"is not {_WORDS[algorithm]}, which {algorithm} takes")
    return SigningKey(algorithm, key)
