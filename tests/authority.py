"""Certificates for tests, of authorities that live as long as the process: making a key takes longer than a test.

Knows trustme and, for names that trustme cannot write (URIs, a CN of one's own), cryptography.
"""

import datetime
from functools import cache
from pathlib import Path

import trustme
from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@cache
def authority(number: int) -> trustme.CA:
    """One of several that do not know each other."""
    return trustme.CA(key_type=trustme.KeyType.ECDSA)


@frozen
class Files:
    """Where a certificate is, as a configuration names it."""

    certificate: str
    key: str
    ca: str
    both: str  # certificate and key


def issue(
    directory: Path,
    *names: str,
    common_name: str = "",
    signed_by: int = 0,
    days: float = 30,
    age_days: float = 1,
) -> Files:
    """Write a certificate for these names (DNS; URI where there is a colon; e-mail), its key and its authority."""
    directory.mkdir(exist_ok=True)
    ca = authority(signed_by)
    ca_key = serialization.load_pem_private_key(ca.private_key_pem.bytes(), None)
    assert isinstance(ca_key, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if common_name else [])
    issuer = x509.load_pem_x509_certificate(ca.cert_pem.bytes()).subject
    builder = (
        x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=age_days))
        .not_valid_after(now + datetime.timedelta(days=days))
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), False)
    signed = builder.sign(ca_key, hashes.SHA256())
    files = Files(*(str(directory / name) for name in ("cert.pem", "key.pem", "ca.pem", "both.pem")))
    certificate = signed.public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    Path(files.certificate).write_bytes(certificate)
    for file, content in ((files.key, secret), (files.both, certificate + secret)):
        Path(file).touch(mode=0o600)
        Path(file).write_bytes(content)
    Path(files.ca).write_bytes(ca.cert_pem.bytes())
    return files


def _general(name: str) -> x509.GeneralName:
    if ":" in name:
        return x509.UniformResourceIdentifier(name)
    return x509.RFC822Name(name) if "@" in name else x509.DNSName(name)
