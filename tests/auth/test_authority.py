"""The kinds of credentials side by side, API keys, certificates, rules, and what refuses to start (S14)."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from triode_broker.auth.api_keys import ApiKey, make_key
from triode_broker.auth.authority import Authority, BadCredentials
from triode_broker.config import Auth, Config, Permission, TokenKey
from triode_broker.core.identity import OPEN, Arrival, Identity
from triode_broker.core.rights import ACTIONS
from triode_protocol.codec import Refused

from tests.auth.making import (
    EC,
    ED,
    GOOD,
    NOW_MS,
    RSA,
    SECRET,
    Clock,
    Door,
    Lines,
    environ,
    make_door,
    private,
    public,
    sign,
)

TOKENS = (TokenKey(algorithm="HS256", key_env="HS256"),)


def write_keys(folder: Path, *keys: ApiKey, text: str | None = None) -> str:
    file = folder / "keys"
    lines = "".join(json.dumps(as_json(key)) + "\n" for key in keys)
    file.touch(0o600)
    file.write_text(lines if text is None else text)
    return str(file)


def as_json(key: ApiKey) -> dict[str, Any]:
    return {name: getattr(key, name) for name in key.__struct_fields__}


def service(**fields: Any) -> tuple[ApiKey, str]:
    return make_key(**{"user": "billing", "permissions": {"publish": ["invoices/#"]}, **fields})


# Who is asked what


def test_nobody_is_asked_where_nothing_is_configured() -> None:
    door = make_door(Config())
    assert door.let_in("") is OPEN
    assert door.let_in("whatever") is OPEN
    assert door.let_in(" ") is OPEN, "SPEC 3.1.6: it is not looked at"


def test_s15_nobody_is_anonymous_but_where_the_configuration_says_so() -> None:
    assert make_door(Config(tokens=TOKENS)).refuse("") == "unauthorized: there is none"
    rules = (Permission(role="anonymous", subscribe=("news/#",)), Permission(publish=("#",)))
    door = make_door(Config(tokens=TOKENS, auth=Auth(anonymous=True), permissions=rules))
    identity = door.let_in("")
    assert (identity.user, identity.tenant, identity.method) == ("", "", "anonymous")
    assert identity.rights.may("subscribe", "news/1")
    assert not identity.rights.may("publish", "news/1"), "rows without a role are for those who have a credential"
    assert "rubbish" not in door.refuse("rubbish"), "who shows a wrong credential is not anonymous"


def test_who_says_to_be_anonymous_is_still_somebody() -> None:
    rules = (Permission(role="anonymous", subscribe=("a",)), Permission(deny_subscribe=("a",)))
    door = make_door(Config(tokens=TOKENS, permissions=rules))
    assert not door.let_in(sign({**GOOD, "roles": ["anonymous"]})).rights.may("subscribe", "a")


def test_a_client_certificate_is_a_credential_where_it_may_be() -> None:
    rules = (
        Permission(role="certificate", subscribe=("all/{user}",)),
        Permission(role="certificate:svc.example", publish=("one/#",)),
    )
    arrival = Arrival(certificate=("svc.example", "other"))
    door = make_door(Config(tokens=TOKENS, auth=Auth(certificates=True), permissions=rules))
    identity = door.let_in("", arrival)
    assert (identity.user, identity.method) == ("svc.example", "certificate")
    assert identity.rights.may("subscribe", "all/svc.example")
    assert identity.rights.may("publish", "one/1")
    assert identity.roles == {"certificate", "certificate:svc.example", "certificate:other"}
    assert door.let_in(sign(GOOD), arrival).user == "alice", "a token says more than the line it came on"
    assert make_door(Config(tokens=TOKENS)).refuse("", arrival) == "unauthorized: there is none"
    assert "the certificate's name" in door.refuse("", Arrival(certificate=("a\x00b",)))


def test_a_kind_that_is_not_configured_is_none(tmp_path: Path) -> None:
    key, text = service()
    only_keys = make_door(Config(auth=Auth(api_keys_file=write_keys(tmp_path, key))))
    assert only_keys.let_in(text).user == "billing"
    assert "none of the kinds" in only_keys.refuse(sign(GOOD))
    assert "none of the kinds" in make_door(Config(tokens=TOKENS)).refuse(text)


# API keys


def test_an_api_key_says_whose_it_is_and_what_it_may(tmp_path: Path) -> None:
    key, text = service(tenant="acme", roles=("service",), expires_ms=NOW_MS + 60_000)
    rules = (Permission(role="service", consume=("jobs/{user}",)),)
    door = make_door(Config(auth=Auth(api_keys_file=write_keys(tmp_path, key)), permissions=rules))
    identity = door.let_in(text)
    assert (identity.user, identity.tenant, identity.key, identity.method) == ("billing", "acme", key.id, "key")
    assert identity.expires_ms == NOW_MS + 60_000
    assert identity.rights.may("publish", "invoices/1")
    assert identity.rights.may("consume", "jobs/billing")
    assert text.startswith(f"tk_{key.id}_")
    assert len(text) == 59
    door.clock.ms += 60_000
    assert door.refuse(text) == f"token_expired: API key {key.id} is no longer good"


def test_an_api_key_that_is_not_exactly_right_is_refused(tmp_path: Path) -> None:
    key, text = service()
    gone, gone_text = service(revoked_ms=1)
    door = make_door(Config(auth=Auth(api_keys_file=write_keys(tmp_path, key, gone))))
    assert door.refuse(gone_text) == f"revoked: API key {gone.id} is no longer good"
    other, other_text = service()
    assert door.refuse(other_text) == f"unauthorized: there is no API key {other.id}"
    for wrong in (
        text[:-1],
        text + "A",
        text.upper(),
        text.replace("tk_", "tk_ "),
        "tk_",
        f"tk_{key.id}_",
        text + "\x00",
    ):
        assert door.refuse(wrong).startswith("unauthorized: ")
    assert door.let_in(text + "\n").user == "billing", "SPEC 11.1.1"
    last = "A" if text[-1] != "A" else "B"
    assert door.refuse(text[:-1] + last) == f"unauthorized: the secret is not that of API key {key.id}"
    last = "A" if gone_text[-1] != "A" else "B"
    assert door.refuse(gone_text[:-1] + last).startswith("unauthorized: "), (
        "only its owner hears that it is revoked"
    )
    secret = text.rpartition("_")[2] if text.count("_") == 2 else text[16:]
    assert secret not in str(door.log.lines)


def test_s10_the_file_holds_no_secret(tmp_path: Path) -> None:
    key, text = service()
    stored = Path(write_keys(tmp_path, key)).read_text()
    assert text[16:] not in stored
    assert text[16:] not in repr(key)


BROKEN = [
    "", "\n", " \n", "{}\n", "[]\n", "null\n", "x\n", '{"id":"x"}\n', "\x00\n",
    '{"id":"0123456789ab","sha256":"HASH","user":"a"}',  # cut off
    '{"id":"0123456789ab","sha256":"HASH","user":"a"\n',
    '{"id":"0123456789ab","sha256":"HASH"}\n',
    '{"id":"0123456789ab","sha256":"HASH","user":""}\n',
    '{"id":"0123456789ab","sha256":"HASH","user":"a","user":"root"}\n',
    '{"id":"0123456789ab","sha256":"HASH","user":"a","revoked":1}\n',
    '{"id":"0123456789ab","sha256":"HASH","user":"a","revoked_ms":-1}\n',
    '{"id":"0123456789ab","sha256":"HASH","user":"a","tenant":"a/b"}\n',
    '{"id":"0123456789ab","sha256":"HASH","user":"a","permissions":{"deny_publsh":["a"]}}\n',
    '{"id":"0123456789ab","sha256":"HASH","user":"a","permissions":{"deny_publish":["a/#/b"]}}\n',
    '{"id":"0123456789AB","sha256":"HASH","user":"a"}\n',
    '{"id":"0123456789ab","sha256":"abc","user":"a"}\n',
    '{"id":"0123456789ab","sha256":"HASH","user":"a"}\n' * 2,
    '{"id":"0123456789ab","sha256":"HASH","user":"a"}\n\n',
]  # fmt: skip


@pytest.mark.parametrize("text", BROKEN)
def test_s14_a_broken_file_of_keys_ends_the_start(tmp_path: Path, text: str) -> None:
    file = write_keys(tmp_path, text=text.replace("HASH", "a" * 64))
    with pytest.raises(BadCredentials, match=r"auth\.api_keys_file: "):
        make_door(Config(auth=Auth(api_keys_file=file)))


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o602, 0o660])
def test_s14_a_file_that_others_may_read_or_change_ends_the_start(tmp_path: Path, mode: int) -> None:
    file = write_keys(tmp_path, service()[0])
    os.chown(file, 12_345, -1) if os.geteuid() == 0 else None
    Path(file).chmod(mode)
    with pytest.raises(BadCredentials, match="chmod 600 takes that away"):
        make_door(Config(auth=Auth(api_keys_file=file)))


def test_s14_a_file_that_is_not_there_ends_the_start(tmp_path: Path) -> None:
    with pytest.raises(BadCredentials, match=r"there is no such file; triode token key create"):
        make_door(Config(auth=Auth(api_keys_file=str(tmp_path / "none"))))
    with pytest.raises(BadCredentials, match="cannot be read: Is a directory"):
        make_door(Config(auth=Auth(api_keys_file=str(tmp_path))))


def test_files_are_read_again_when_the_broker_is_told_to(tmp_path: Path) -> None:
    (one, first), (two, second) = service(), service()
    config = Config(auth=Auth(api_keys_file=write_keys(tmp_path, one)))
    door = make_door(config)
    connected = door.let_in(first)
    write_keys(tmp_path, one, two)
    assert door.refuse(second).startswith("unauthorized: ")
    door.authority.reload(config)
    assert door.let_in(second).key == two.id
    assert isinstance(door.authority.judge(connected), Identity)
    write_keys(tmp_path, ApiKey(**{**as_json(one), "revoked_ms": 5}), two)
    door.authority.reload(config)
    assert door.refuse(first).startswith("revoked: ")
    assert judged(door, connected) == "revoked", "who is connected with it is nobody any more"
    write_keys(tmp_path, ApiKey(**{**as_json(two), "user": "somebody"}))
    other = door.let_in(second)
    door.authority.reload(config)
    assert judged(door, other) == "unauthorized"


def test_a_key_that_has_run_out_was_not_withdrawn(tmp_path: Path) -> None:
    """SPEC 11.4.5, 11.2.3: a will is published all the same, and its connection is closed with 4201."""
    key, text = service(expires_ms=NOW_MS + 1_000)
    config = Config(auth=Auth(api_keys_file=write_keys(tmp_path, key)))
    door = make_door(config)
    before = door.let_in(text)
    door.clock.ms += 1_000
    door.authority.reload(config)
    now = door.authority.judge(before)
    assert isinstance(now, Identity)
    assert now.expires_ms == NOW_MS + 1_000
    assert door.refuse(text).startswith("token_expired: ")


def judged(door: Door, identity: Identity) -> str:
    answer = door.authority.judge(identity)
    assert isinstance(answer, Refused)
    return str(answer.name)


def test_rights_change_for_who_is_connected(tmp_path: Path) -> None:
    config = Config(tokens=TOKENS, permissions=(Permission(subscribe=("a", "b")),))
    door = make_door(config)
    before = door.let_in(sign(GOOD))
    door.authority.reload(config)
    same = door.authority.judge(before)
    assert isinstance(same, Identity)
    assert same.rights is before.rights
    door.authority.reload(Config(tokens=TOKENS, permissions=(Permission(subscribe=("b", "c")),)))
    now = door.authority.judge(before)
    assert isinstance(now, Identity)
    assert [now.rights.may("subscribe", topic) for topic in "abc"] == [False, True, True]
    assert now.expires_ms == before.expires_ms
    door.authority.reload(Config(auth=Auth(anonymous=True)))
    assert judged(door, before) == "unauthorized", "the key that signed its token is gone"


def test_who_came_in_by_what_is_no_way_in_any_more_is_nobody() -> None:
    both = Config(tokens=TOKENS, auth=Auth(anonymous=True, certificates=True))
    door = make_door(both)
    guest, service = door.let_in(""), door.let_in("", Arrival(certificate=("svc",)))
    door.authority.reload(both)
    assert isinstance(door.authority.judge(guest), Identity)
    assert isinstance(door.authority.judge(service), Identity)
    door.authority.reload(Config(tokens=TOKENS))
    assert [judged(door, guest), judged(door, service)] == ["unauthorized"] * 2


def test_s14_what_has_become_bad_changes_nothing(tmp_path: Path) -> None:
    key, text = service()
    config = Config(auth=Auth(api_keys_file=write_keys(tmp_path, key)))
    door = make_door(config)
    rules = (Permission(deny_publish=("a/#/b",)),)
    for broken in ("", "x\n"):
        write_keys(tmp_path, text=broken)
        with pytest.raises(BadCredentials, match="api_keys_file"):
            door.authority.reload(config)
        assert door.let_in(text).key == key.id
    with pytest.raises(BadCredentials, match="permissions #1"):
        door.authority.reload(Config(auth=config.auth, permissions=rules))
    with pytest.raises(BadCredentials, match="needs a restart"):
        door.authority.reload(Config(tokens=(TokenKey(jwks_url="https://id.example/"),)))
    assert door.let_in(text).key == key.id


def test_keys_of_tokens_are_read_again_too(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.touch(0o600)
    file.write_text(SECRET)
    config = Config(tokens=(TokenKey(algorithm="HS256", key_file=str(file)),))
    door = make_door(config)
    before = door.let_in(sign(GOOD))
    file.write_text(SECRET[::-1])
    door.authority.reload(config)
    assert "signature" in door.refuse(sign(GOOD))
    assert door.let_in(sign(GOOD, key=SECRET[::-1])).user == "alice"
    assert judged(door, before) == "unauthorized"


# Keys that are refused at the start


@pytest.mark.parametrize(
    ("algorithm", "text", "reason"),
    [
        ("HS256", b"x" * 31, "holds 31 bytes, and HS256 needs at least 32"),
        ("HS384", b"x" * 47, "needs at least 48"),
        ("HS512", b"x" * 63, "needs at least 64"),
        ("HS256", b"   \n" + b"x" * 20, "holds 20 bytes"),
        ("HS256", public(RSA), "holds a key in PEM, and HS256 takes a secret"),
        ("RS256", public(rsa.generate_private_key(65_537, 1_024)), "has 1024 bits; RSA takes 2048 to 8192"),
        ("RS256", public(EC), "is not an RSA key"),
        ("ES256", public(RSA), "is not a key on the curve P-256"),
        ("ES256", public(ec.generate_private_key(ec.SECP384R1())), "is not a key on the curve P-256"),
        ("EdDSA", public(EC), "is not an Ed25519 key"),
        ("RS256", private(RSA), "holds a private key: give the broker the public one"),
        ("EdDSA", private(ED), "holds a private key"),
        ("RS256", b"rubbish", "is not a public key in PEM"),
        ("RS256", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "is not a public key in PEM"),
        ("RS256", b"", "is not a public key in PEM"),
        ("HS256", b"x" * 70_000, "holds more than 65536 bytes"),
    ],
)
def test_s17_a_key_that_is_too_weak_or_of_another_kind_ends_the_start(
    tmp_path: Path, algorithm: Any, text: bytes, reason: str
) -> None:
    """RFC 8725 3.2, 3.5; RFC 7518 3.2, 3.3."""
    file = tmp_path / "key"
    file.touch(0o600)
    file.write_bytes(text)
    with pytest.raises(BadCredentials, match=r"^tokens #1 key_file: ") as caught:
        make_door(Config(tokens=(TokenKey(algorithm=algorithm, key_file=str(file)),)))
    assert reason in str(caught.value)
    assert "x" * 20 not in str(caught.value)


def test_s14_a_secret_that_others_may_read_ends_the_start_and_a_public_key_may_be_read(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(SECRET)
    file.chmod(0o644)
    with pytest.raises(BadCredentials, match="chmod 600"):
        make_door(Config(tokens=(TokenKey(algorithm="HS256", key_file=str(file)),)))
    file.write_bytes(public(RSA))
    assert make_door(Config(tokens=(TokenKey(key_file=str(file)),))).let_in(sign(GOOD, "RS256")).user == "alice"
    file.chmod(0o646)
    with pytest.raises(BadCredentials, match="everybody may change it"):
        make_door(Config(tokens=(TokenKey(key_file=str(file)),)))


@pytest.mark.parametrize("value", [None, "", "  "])
def test_a_variable_that_is_not_set_ends_the_start(value: str | None) -> None:
    given = {} if value is None else {"HS256": value}
    with pytest.raises(BadCredentials, match="key_env: the variable HS256 of the environment is not set"):
        make_door(Config(tokens=TOKENS), environ=given)


@pytest.mark.parametrize(
    ("secret", "reason"), [("short", "fewer than 16"), ("é" * 20, "HTTP header"), ("a\x00" * 9, "HTTP header")]
)
def test_a_callouts_secret_is_one(secret: str, reason: str) -> None:
    auth = Auth(callout_url="https://auth.example/", callout_secret_env="S")
    with pytest.raises(BadCredentials, match=reason):
        make_door(Config(auth=auth), environ={"S": secret})


def test_s14_a_rule_that_is_broken_ends_the_start() -> None:
    bad: list[Any] = [{"deny_publish": ("a/#/b",)}, {"subscribe": ("room-{user}",)}, {"publish": ("{nobody}/a",)}]
    for rules in bad:
        with pytest.raises(BadCredentials, match="permissions #1"):
            make_door(Config(tokens=TOKENS, permissions=(Permission(**rules),)))


# Rules


def test_nothing_is_allowed_that_no_rule_allows() -> None:
    rights = make_door(Config(tokens=TOKENS)).let_in(sign(GOOD)).rights
    for action in ACTIONS:
        assert rights.verdict(action, "#") == "none"
        assert not rights.may(action, "a")


def test_rules_are_for_a_role_and_a_tenant() -> None:
    rules = (
        Permission(subscribe=("all",)),
        Permission(role="editor", subscribe=("edit",)),
        Permission(tenant="acme", subscribe=("acme",)),
        Permission(role="editor", tenant="acme", subscribe=("both",)),
        Permission(tenant="acme", deny_subscribe=("all",)),
    )
    door = make_door(Config(tokens=TOKENS, permissions=rules))

    def topics(**claims: Any) -> set[str]:
        rights = door.let_in(sign({**GOOD, **claims})).rights
        return {topic for topic in ("all", "edit", "acme", "both") if rights.may("subscribe", topic)}

    assert topics() == {"all"}
    assert topics(roles=["editor", "x"]) == {"all", "edit"}
    assert topics(tenant="acme") == {"acme"}
    assert topics(tenant="acme", roles=["editor"]) == {"acme", "edit", "both"}


@pytest.mark.parametrize("user", ["+", "#", "a/b", "*", "$sys", "alice/#", "{user}", "+/#"])
def test_s12_a_user_is_letters_in_a_rule(user: str) -> None:
    rules = (Permission(subscribe=("users/{user}/#",), deny_publish=("users/{user}/x",), publish=("users/#",)),)
    rights = make_door(Config(tokens=TOKENS, permissions=rules)).let_in(sign({**GOOD, "sub": user})).rights
    assert not rights.may("subscribe", "users/bob/x")
    assert not rights.may("subscribe", "users/alice/x")
    assert rights.verdict("subscribe", "users/+/x") != "all"


def test_claims_fill_placeholders() -> None:
    rules = (Permission(publish=("{tenant}/{claims.team}/{claims.n}",)),)
    door = make_door(Config(tokens=TOKENS, permissions=rules))
    assert door.let_in(sign({**GOOD, "tenant": "t", "team": "red", "n": 5})).rights.may("publish", "t/red/5")
    assert not door.let_in(sign({**GOOD, "tenant": "t", "team": ["red"], "n": 5})).rights.may("publish", "t/red/5")


def test_equal_rules_are_judged_once() -> None:
    rules = (Permission(publish=("a/#",)),)
    door = make_door(Config(tokens=TOKENS, permissions=rules))
    alice, bob = door.let_in(sign(GOOD)), door.let_in(sign({**GOOD, "sub": "bob"}))
    assert alice.rights is bob.rights


def test_a_bug_in_a_check_costs_one_answer_and_tells_no_credential() -> None:
    """S1, S10."""

    class Broken:
        def check(self, token: str, now_ms: int) -> None:
            raise RuntimeError(token)

    door = make_door(Config(tokens=TOKENS))
    door.authority._tokens = Broken()  # type: ignore[assignment]  # a fault planted
    refused = door.ask(sign(GOOD))
    assert "unavailable" in repr(refused)
    (line,) = door.log.of("credential_check_failed")
    assert line["kind"] == "RuntimeError"
    assert sign(GOOD) not in str(line)


def test_an_authority_shows_nothing_of_what_it_holds() -> None:
    """S10."""
    authority = Authority(Config(tokens=TOKENS), Lines(), Clock(), flush=lambda: None, environ=environ())
    assert SECRET not in repr(authority) + repr(authority._tokens._rows)
