"""Making keys and tokens: for `triode token`, and for nobody else.

Knows private keys, which a broker never does. The surprising decision: it lives beside what checks tokens, so that
both agree on what a good key is.
"""

import secrets
from collections.abc import Mapping
from typing import Any, Final

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as generate_rsa_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from triode_broker.auth.signing_keys import SECRET_BYTES, BadKey, from_text

_RSA_BITS: Final = 3_072  # new keys; 2048 are accepted

PrivateKey = RSAPrivateKey | EllipticCurvePrivateKey | Ed25519PrivateKey


def sign(claims: Mapping[str, Any], algorithm: str, text: bytes, kid: str = "") -> str:
    """A token with these claims, signed with a secret or a private key in PEM. Raises BadKey."""
    key = from_text(algorithm, text).value if algorithm in SECRET_BYTES else _private(algorithm, text)
    return jwt.encode(dict(claims), key, algorithm, {"kid": kid} if kid else None)


def algorithm_of(text: bytes) -> str:
    """What a key in PEM can sign with; anything else is a secret for HS256. Raises BadKey."""
    if b"-----BEGIN" not in text:
        return "HS256"
    match _load(text):
        case RSAPrivateKey():
            return "RS256"
        case EllipticCurvePrivateKey():
            return "ES256"
        case _:
            return "EdDSA"


def _private(algorithm: str, text: bytes) -> PrivateKey:
    key = _load(text)
    from_text(algorithm, public_pem(key))  # as strong, and of the kind that brokers take
    return key


def _load(text: bytes) -> PrivateKey:
    if b"PUBLIC KEY-----" in text:
        raise BadKey("holds a public key, which checks tokens; signing takes the private one")
    try:
        key = load_pem_private_key(text, None)
    except TypeError:
        raise BadKey("is encrypted with a password: openssl pkey -in FILE writes it without") from None
    except (ValueError, UnsupportedAlgorithm):
        raise BadKey("is not a private key in PEM (-----BEGIN PRIVATE KEY-----)") from None
    if not isinstance(key, PrivateKey):
        raise BadKey("is a key of a kind that signs no tokens here: RSA, P-256 or Ed25519")
    return key


def make_secret(algorithm: str) -> str:
    """A random secret for HS…, as text that fits in files and variables."""
    return secrets.token_urlsafe(SECRET_BYTES[algorithm])


def make_pair(algorithm: str) -> tuple[bytes, bytes]:
    """A private and a public key in PEM."""
    key: PrivateKey
    match algorithm:
        case "RS256":
            key = generate_rsa_key(65_537, _RSA_BITS)
        case "ES256":
            key = generate_private_key(SECP256R1())
        case _:
            key = Ed25519PrivateKey.generate()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), public_pem(key)


def public_pem(key: PrivateKey) -> bytes:
    """The public half."""
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
