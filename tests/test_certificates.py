"""Certificates in use: loaded when their files have settled, kept when those cannot be used; and names in them."""

import os
import ssl
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from attrs import define, field
from msgspec.structs import replace
from triode_broker.certificates import Certificates
from triode_broker.config import Config, Tls
from triode_broker.securing import BadSecuring, Securing
from triode_broker.tls import MAX_NAMES, BadCertificate, client_names, dialling, is_of_node, listening, names

from tests.authority import Files, authority, issue
from tests.edge.rig import Log

DAY = 86_400.0


@define
class Clock:
    """Seconds of the wall clock, from now on by hand."""

    seconds: float = field(factory=time.time)

    def __call__(self) -> float:
        return self.seconds


class Seen(Log):
    """Remembers what was informed of, too."""

    info = Log.error


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return issue(tmp_path / "one", "broker.example")


def settings(files: Files, **more: str) -> Tls:
    return Tls(files.certificate, files.key, **more)  # type: ignore[arg-type]  # literals


def serial(certificates: Certificates) -> str:
    """Of the certificate that the next one who connects is shown."""
    server_in, server_out = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = certificates.listening().wrap_bio(server_in, server_out, server_side=True)
    context = ssl.create_default_context()
    authority(0).configure_trust(context)
    client = context.wrap_bio(server_out, server_in, server_hostname="broker.example")
    for step in (client, server, client, server):
        with suppress(ssl.SSLWantReadError):
            step.do_handshake()
    shown = client.getpeercert()
    assert shown is not None
    return str(shown["serialNumber"])


def put(files: Files, other: Files) -> None:
    """As who renews it does: one file after the other, each replaced at once."""
    for of, to in ((other.certificate, files.certificate), (other.key, files.key)):
        os.replace(of, to)


def test_changed_files_are_loaded_once_they_have_settled(files: Files, tmp_path: Path) -> None:
    log = Seen()
    certificates = Certificates("tls", settings(files), log, Clock())
    before = serial(certificates)
    put(files, issue(tmp_path / "two", "broker.example"))
    certificates.look()
    assert serial(certificates) == before
    certificates.look()
    assert serial(certificates) != before
    assert log.events == ["certificate_loaded"]
    certificates.look()
    assert log.events == ["certificate_loaded"]


def test_other_files_are_in_use_once_all_parts_have_agreed(files: Files, tmp_path: Path) -> None:
    """S14: a reload prepares, and only then commits."""
    config = Config(tls=settings(files))
    other = replace(
        config, tls=settings(issue(tmp_path / "two", "broker.example")), trusted_proxies=("10.0.0.0/8",)
    )
    securing = Securing(config, Seen(), Clock())
    certificates = securing._clients
    assert certificates is not None
    shown = certificates.listening  # as the listeners keep it
    before = serial(certificates)
    commit = securing.prepare(config, other)
    with pytest.raises(BadSecuring, match=r"tls\.certificate: there is no such file"):
        securing.prepare(config, replace(config, tls=replace(config.tls, certificate=str(tmp_path / "none"))))
    assert (serial(certificates), "10.1.1.1" in securing.front().proxies) == (before, False)
    commit()
    assert serial(certificates) != before
    assert shown() is certificates.listening()
    assert "10.1.1.1" in securing.front().proxies
    securing.prepare(other, other)()
    assert serial(certificates) != before


def test_half_a_renewal_is_not_even_tried(files: Files, tmp_path: Path) -> None:
    log = Seen()
    certificates = Certificates("tls", settings(files), log, Clock())
    other = issue(tmp_path / "two", "broker.example")
    os.replace(other.certificate, files.certificate)
    certificates.look()
    os.replace(other.key, files.key)
    certificates.look()
    certificates.look()
    assert log.events == ["certificate_loaded"]


@pytest.mark.parametrize("damage", ["cut", "empty", "gone", "open", "other_key"])
def test_s14_files_that_cannot_be_used_change_nothing_and_are_told(
    files: Files, tmp_path: Path, damage: str
) -> None:
    log = Seen()
    certificates = Certificates("tls", settings(files), log, Clock())
    before = serial(certificates)
    certificate, key = Path(files.certificate), Path(files.key)
    match damage:
        case "cut":
            certificate.write_bytes(certificate.read_bytes()[:-60])
        case "empty":
            key.write_bytes(b"")
        case "gone":
            certificate.unlink()
        case "open":
            key.touch()
            key.chmod(0o644)
        case "other_key":
            os.replace(issue(tmp_path / "two", "broker.example").key, key)
    certificates.reload()
    assert serial(certificates) == before
    assert log.events == ["certificate_not_loaded"]
    (trouble,) = certificates.troubles()
    assert "what was loaded before is still in use" in trouble
    assert certificates.report()["error"] == trouble
    certificates.look()
    assert log.events == ["certificate_not_loaded"]
    put(files, issue(tmp_path / "three", "broker.example"))
    certificates.reload()
    assert certificates.troubles() == []


@pytest.mark.parametrize(
    ("days", "age_days", "left", "is_near"),
    [(90, 0, 7.1, False), (90, 0, 6.9, True), (6, 0, 2.1, False), (6, 0, 1.9, True), (90, 0, -1, True)],
)
def test_the_end_is_told_a_week_ahead_or_a_third_of_a_short_life(
    tmp_path: Path, days: float, age_days: float, left: float, is_near: bool
) -> None:
    log, clock = Seen(), Clock()
    files = issue(tmp_path / "one", "broker.example", days=days, age_days=age_days)
    certificates = Certificates("tls", settings(files), log, clock)
    clock.seconds += (days - left) * DAY
    for _ in range(3):
        certificates.look()
    assert log.events == ["certificate_expires"] * is_near
    assert len(certificates.troubles()) == is_near
    clock.seconds += DAY
    certificates.look()
    assert len(log.events) == (2 if is_near else bool(certificates.troubles()))


def pems(files: Files) -> Iterator[tuple[str, Tls]]:
    """Settings that cannot be used, each with the setting to be named."""
    certificate, key = Path(files.certificate), Path(files.key)
    folder = certificate.parent
    (folder / "text.pem").write_text("no PEM at all")
    (folder / "empty.pem").write_text(" \n")
    (folder / "open.pem").write_bytes(key.read_bytes())
    (folder / "open.pem").chmod(0o604)
    both = folder / "both.pem"
    both.write_bytes(certificate.read_bytes() + key.read_bytes())
    both.chmod(0o644)
    yield "certificate", Tls(str(folder / "none.pem"), files.key)
    yield "certificate", Tls(str(folder), files.key)
    yield "certificate", Tls(str(folder / "text.pem"), files.key)
    yield "certificate", Tls(files.certificate)
    yield "certificate", Tls(str(both))
    yield "key", Tls(files.certificate, str(folder / "empty.pem"))
    yield "key", Tls(files.certificate, str(folder / "open.pem"))
    yield "client_ca", Tls(files.certificate, files.key, str(folder / "text.pem"))
    yield "client_ca", Tls(files.certificate, files.key, str(folder / "none.pem"))


def test_s14_what_cannot_be_used_is_told_by_the_name_of_its_setting(files: Files) -> None:
    for setting, tls in pems(files):
        for make in (listening, dialling) if setting != "client_ca" else (listening,):
            with pytest.raises(BadCertificate) as caught:
                make(tls)
            assert caught.value.setting == setting, tls
            assert caught.value.wrong


def test_a_certificate_in_the_place_of_the_key_is_no_secret_to_be_hidden(files: Files) -> None:
    """Both lines mixed up: `chmod 600` would be the wrong advice."""
    for tls in (Tls(files.key, files.certificate), Tls(files.certificate, files.certificate)):
        with pytest.raises(BadCertificate, match="are swapped") as caught:
            listening(tls)
        assert caught.value.setting == "key"


def test_a_file_that_is_not_there_is_told_by_its_whole_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadCertificate, match=f"there is no such file: {tmp_path}/none.pem$"):
        listening(Tls("none.pem"))


def test_a_key_in_the_certificates_file_is_found_there(files: Files, tmp_path: Path) -> None:
    both = tmp_path / "both.pem"
    both.touch(mode=0o600)
    both.write_bytes(Path(files.key).read_bytes() + Path(files.certificate).read_bytes())
    found = Certificates("tls", Tls(str(both)), Seen(), Clock())
    assert serial(found)
    assert found.troubles() == []


def test_an_encrypted_key_asks_nobody(files: Files) -> None:
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key(Path(files.key).read_bytes(), None)
    Path(files.key).write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(BadCertificate, match="encrypted"):
        listening(settings(files))


def test_listeners_speak_nothing_older_than_1_2_and_never_renegotiate(files: Files) -> None:
    context = listening(settings(files, client_ca=files.ca))
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_RENEGOTIATION
    assert context.verify_mode == ssl.CERT_OPTIONAL
    assert listening(settings(files, client_ca=files.ca, client_certificates="required")).verify_mode == 2
    assert listening(settings(files, client_ca=files.ca), is_for_nodes=True).verify_mode == 2
    assert listening(settings(files)).verify_mode == ssl.CERT_NONE


# Names

ALTERNATIVES = {
    "subjectAltName": (
        ("DNS", "a.example"),
        ("email", "a@example"),
        ("IP Address", "::1"),
        ("URI", "spiffe://x/a"),
    ),
    "subject": ((("countryName", "NL"),), (("commonName", "A"),)),
    "notAfter": "Jan  1 00:00:00 2100 GMT",
}


def test_names_come_in_the_order_in_which_they_tell_most() -> None:
    assert client_names(ALTERNATIVES) == ("spiffe://x/a", "a.example", "a@example", "A")
    assert client_names({}) == ()


@pytest.mark.parametrize("name", ["", "a\nb", "a\x00b", "a\u202eb", "x" * 256])
def test_a_name_that_cannot_be_shown_whole_is_none(name: str) -> None:
    assert names({"subject": ((("commonName", name),),)}) == ()


def test_a_certificate_has_only_so_many_names() -> None:
    many = tuple(("DNS", f"{number}.example") for number in range(100))
    assert names({"subjectAltName": many}) == tuple(f"{number}.example" for number in range(MAX_NAMES))


def test_a_certificate_that_is_over_names_nobody() -> None:
    with pytest.raises(OSError, match="expired"):
        client_names({**ALTERNATIVES, "notAfter": "Jan  1 00:00:00 2020 GMT"})


def test_s20_a_node_is_named_exactly() -> None:
    assert is_of_node({"subjectAltName": (("DNS", "n1"),)}, "c", "n1")
    assert is_of_node({"subjectAltName": (("URI", "triode://c/n1"),)}, "c", "n1")
    for name in (("DNS", "n1.c"), ("DNS", "*"), ("URI", "triode://d/n1"), ("email", "n1"), ("DNS", "N1")):
        assert not is_of_node({"subjectAltName": (name,), "subject": ((("commonName", "n1"),),)}, "c", "n1")
    assert not is_of_node({}, "c", "n1")
