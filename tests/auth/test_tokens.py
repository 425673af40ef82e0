"""S17, S18: tokens (JWT). A row for each trick that has opened another system; RFC 8725 has most of them."""

import json
from typing import Any

import jwt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from triode_broker.config import Auth, Config, Permission, TokenKey
from triode_broker.core.identity import Arrival, Identity
from triode_protocol.codec import Refused

from tests.auth.making import (
    EC,
    GOOD,
    NOW,
    NOW_MS,
    OTHER_RSA,
    RSA,
    Door,
    make_door,
    part,
    public,
    sign,
    sign_text,
)

ALGORITHMS = ("HS256", "HS384", "HS512", "RS256", "ES256", "EdDSA")


def row(algorithm: str = "HS256", **fields: Any) -> TokenKey:
    return TokenKey(algorithm=algorithm, key_env=algorithm, **fields)  # type: ignore[arg-type]  # one of the six


def door(*rows: TokenKey, **auth: Any) -> Door:
    return make_door(Config(tokens=rows or (row(),), auth=Auth(**auth)))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_each_algorithm_lets_its_tokens_in(algorithm: str) -> None:
    identity = door(row(algorithm)).let_in(sign({**GOOD, "jti": "t1", "tenant": "acme"}, algorithm))
    assert (identity.user, identity.tenant, identity.token_id) == ("alice", "acme", "t1")
    assert (identity.expires_ms, identity.issued_ms, identity.method) == (
        NOW_MS + 600_000,
        NOW_MS - 10_000,
        "token",
    )


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("other", ALGORITHMS)
def test_s17_the_algorithm_is_the_keys_and_never_the_tokens(algorithm: str, other: str) -> None:
    if algorithm != other:
        assert "no configured key is for" in door(row(algorithm)).refuse(sign(GOOD, other))


@pytest.mark.parametrize("name", ["none", "None", "NONE", "nOnE", "", "HS256 ", "hs256", "RS256\x00"])
@pytest.mark.parametrize("signature", ["", "AAAA"])
def test_s17_alg_none_in_all_its_spellings_is_refused(name: str, signature: str) -> None:
    token = f"{part({'alg': name, 'typ': 'JWT'})}.{part(GOOD)}.{signature}"
    for algorithm in ALGORITHMS:
        assert door(row(algorithm)).refuse(token).startswith("unauthorized: ")


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
@pytest.mark.parametrize("key", [RSA, EC])
def test_s17_a_public_key_is_no_secret(algorithm: str, key: Any) -> None:
    """HS/RS confusion (RFC 8725 2.1): a token signed by HMAC with what everybody can read."""
    mac = jwt.get_algorithm_by_name(algorithm)
    for text in (public(key), public(key).strip()):
        signed = f"{part({'alg': algorithm})}.{part(GOOD)}".encode()
        forged = f"{signed.decode()}.{part('x')}"
        signature = mac.sign(signed, text)
        forged = f"{signed.decode()}.{jwt.utils.base64url_encode(signature).decode()}"
        both = door(row("RS256"), row("ES256"), row(algorithm))
        assert "no configured key has made its signature" in both.refuse(forged)
        assert "no configured key is for" in door(row("RS256"), row("ES256")).refuse(forged)


@pytest.mark.parametrize("name", ["jku", "x5u", "x5c", "x5t", "jwk"])
def test_s18_keys_that_a_token_brings_along_are_nothing(name: str) -> None:
    """RFC 8725 3.10, RFC 7515 4.1: neither fetched nor used, and no reason to refuse a good token."""
    own = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(OTHER_RSA.public_key()))
    brought = {
        "jku": "https://evil.example/",
        "x5u": "https://evil.example/",
        "x5c": ["x"],
        "x5t": "x",
        "jwk": own,
    }
    header = {name: brought[name]}
    assert "has made its signature" in door(row("RS256")).refuse(sign(GOOD, "RS256", OTHER_RSA, **header))
    assert door(row("RS256")).let_in(sign(GOOD, "RS256", **header)).user == "alice"


@pytest.mark.parametrize("kid", ["../../etc/passwd", "' OR 1=1 --", "x" * 1000, "\x1b[2J", "http://evil.example"])
def test_s18_a_kid_is_only_compared(kid: str) -> None:
    named = door(row(kid="k1"))
    reason = named.refuse(sign(GOOD, kid=kid))
    assert "no configured key named" in reason
    assert reason.isprintable()
    assert len(reason) < 250
    assert named.let_in(sign(GOOD, kid="k1")).user == "alice"
    assert named.let_in(sign(GOOD)).user == "alice"
    assert door().let_in(sign(GOOD, kid="whatever")).user == "alice"


def test_s18_a_kid_is_text() -> None:
    for kid in ("5", "null", "{}", "[1]", "true"):
        header = f'{{"alg":"HS256","kid":{kid}}}'
        assert "a kid that is not text" in door().refuse(sign_text(json.dumps(GOOD), header))


@pytest.mark.parametrize(
    "strange", ['"crit":["exp"]', '"crit":[]', '"b64":false', '"b64":true', '"zip":"DEF"', '"enc":"A"']
)
def test_what_changes_how_a_token_is_read_is_refused(strange: str) -> None:
    """RFC 7515 4.1.11, RFC 7797."""
    token = sign_text(json.dumps(GOOD), f'{{"alg":"HS256",{strange}}}')
    assert "not understood here" in door().refuse(token)


@pytest.mark.parametrize(("kind", "is_good"), [
    ("JWT", True), ("jwt", True), ("at+jwt", True), ("application/at+jwt", True),
    ("logout+jwt", False), ("dpop+jwt", False), ("secevent+jwt", False), ("JOSE", False), ("", False),
])  # fmt: skip
def test_a_token_for_something_else_is_refused(kind: str, is_good: bool) -> None:
    """RFC 8725 3.11."""
    token = sign_text(json.dumps(GOOD), json.dumps({"alg": "HS256", "typ": kind}))
    if is_good:
        assert door().let_in(token).user == "alice"
    else:
        assert "a typ that is no access token's" in door().refuse(token)


TIMES = [
    ({"exp": NOW + 600}, None),
    ({"exp": NOW + 600.5}, None),
    ({"exp": NOW - 59}, None),  # within the leeway
    ({"exp": NOW - 60}, "token_expired: it has expired"),
    ({"exp": 0}, "token_expired: it has expired"),
    ({}, "it has no exp"),
    ({"exp": None}, "its exp is not a time"),
    ({"exp": -1}, "its exp is not a time"),
    ({"exp": str(NOW + 600)}, "its exp is not a time"),
    ({"exp": True}, "its exp is not a time"),
    ({"exp": [NOW + 600]}, "its exp is not a time"),
    ({"exp": {"a": 1}}, "its exp is not a time"),
    ({"exp": 10**30}, "its exp is not a time"),
    ({"exp": 2**63}, "its exp is not a time"),
    ({"exp": NOW + 600, "nbf": NOW + 60}, None),
    ({"exp": NOW + 600, "nbf": NOW + 61}, "its nbf is still to come"),
    ({"exp": NOW + 600, "nbf": "soon"}, "its nbf is not a time"),
    ({"exp": NOW + 600, "iat": NOW + 60}, None),
    ({"exp": NOW + 600, "iat": NOW + 61}, "its iat is still to come"),
    ({"exp": NOW + 600, "iat": -5}, "its iat is not a time"),
    ({"exp": NOW + 86_400 + 61}, "good for longer than auth.max_token_seconds"),
]


@pytest.mark.parametrize(("times", "reason"), TIMES, ids=[json.dumps(times) for times, _ in TIMES])
def test_s17_times_are_checked_with_sixty_seconds_of_leeway(times: dict[str, Any], reason: str | None) -> None:
    token = sign_text(json.dumps({"sub": "alice", **times}))
    if reason is None:
        assert door().let_in(token).user == "alice"
    else:
        assert reason in door().refuse(token)


@pytest.mark.parametrize("exp", [
    "1e400", "-1e400", "NaN", "Infinity", "-Infinity", "9" * 400, "9" * 5000, "1e999999999",
])  # fmt: skip
def test_s17_an_expiry_that_is_no_number_of_seconds_is_refused(exp: str) -> None:
    assert door().refuse(sign_text(f'{{"sub":"alice","exp":{exp}}}')).startswith("unauthorized: ")


def test_who_comes_inside_the_leeway_has_until_it_ends() -> None:
    """Else its connection would be closed at once, and it would come again."""
    late = sign({"sub": "alice", "exp": NOW - 20})
    assert door().let_in(late).expires_ms == NOW_MS + 40_000
    assert door(leeway_seconds=0).refuse(late) == "token_expired: it has expired"


def test_a_token_is_good_for_a_bounded_time_whatever_it_says() -> None:
    token = sign({"sub": "alice", "iat": NOW - 100, "exp": NOW + 10**7})
    assert door().let_in(token).expires_ms == NOW_MS + 86_300_000
    assert door(max_token_seconds=0).let_in(token).expires_ms == (NOW + 10**7) * 1000
    assert door(max_token_seconds=30).refuse(token) == "token_expired: it has expired"


@pytest.mark.parametrize(("said", "is_good"), [
    ({"iss": "https://id.example/", "aud": "triode"}, True),
    ({"iss": "https://id.example/", "aud": ["other", "triode"]}, True),
    ({"iss": "https://id.example", "aud": "triode"}, False),
    ({"iss": ["https://id.example/"], "aud": "triode"}, False),
    ({"aud": "triode"}, False),
    ({"iss": "https://id.example/"}, False),
    ({"iss": "https://id.example/", "aud": "triode2"}, False),
    ({"iss": "https://id.example/", "aud": []}, False),
    ({"iss": "https://id.example/", "aud": {"triode": 1}}, False),
    ({"iss": "https://id.example/", "aud": [["triode"]]}, False),
    ({"iss": "https://id.example/", "aud": 5}, False),
])  # fmt: skip
def test_issuer_and_audience_are_exact(said: dict[str, Any], is_good: bool) -> None:
    """RFC 8725 3.8, 3.9."""
    strict = door(row(issuer="https://id.example/", audience="triode"))
    token = sign_text(json.dumps({**GOOD, **said}))
    if is_good:
        assert strict.let_in(token).user == "alice"
    else:
        assert strict.refuse(token).startswith("unauthorized: its ")


def test_one_key_may_serve_two_issuers() -> None:
    both = door(row(issuer="a", tenant="acme"), row(issuer="b", tenant="globex"))
    assert both.let_in(sign({**GOOD, "iss": "a"})).tenant == "acme"
    assert both.let_in(sign({**GOOD, "iss": "b"})).tenant == "globex"
    assert "its iss is not" in both.refuse(sign({**GOOD, "iss": "c"}))


@pytest.mark.parametrize(
    "sub",
    [
        '""',
        "5",
        "null",
        '["alice"]',
        '{"a":1}',
        "true",
        '"a\\u0000b"',
        '"\\ud800"',
        '"\\u202e"',
        '"\\n"',
        json.dumps("x" * 256),
        json.dumps("é" * 128),
    ],
)
def test_a_user_is_a_name_that_can_be_shown(sub: str) -> None:
    assert "its sub is" in door().refuse(sign_text(f'{{"sub":{sub},"exp":{NOW + 60}}}'))


def test_a_token_without_a_user_is_nobodys() -> None:
    assert "its sub is not text" in door().refuse(sign({"exp": NOW + 60}))
    assert (
        door(row(user_claim="email")).let_in(sign({"email": "a@b.example", "exp": NOW + 60})).user == "a@b.example"
    )


@pytest.mark.parametrize("tenant", ["", "a/b", "a b", "$x", "x" * 65, "é", 5, ["a"], True, "a:b", "+", "#"])
def test_a_tenant_is_a_plain_name(tenant: Any) -> None:
    assert "its tenant is not a tenant's name" in door(row(tenant="acme")).refuse(sign({**GOOD, "tenant": tenant}))


def test_a_tenant_is_the_tokens_or_the_rows() -> None:
    assert door(row(tenant="acme")).let_in(sign(GOOD)).tenant == "acme"
    assert door(row(tenant="acme")).let_in(sign({**GOOD, "tenant": "globex"})).tenant == "globex"
    assert door(row(tenant="acme", tenant_claim="")).let_in(sign({**GOOD, "tenant": "globex"})).tenant == "acme"


@pytest.mark.parametrize("payload", [
    f'{{"sub":"alice","sub":"root","exp":{NOW + 60}}}',
    f'{{"sub":"alice","exp":{NOW - 6000},"exp":{NOW + 60}}}',
    f'{{"sub":"alice","exp":{NOW + 60},"a":{{"b":1,"b":2}}}}',
])  # fmt: skip
def test_s17_what_is_said_twice_is_refused(payload: str) -> None:
    """RFC 8725 2.6 and RFC 7519 4: two readers may take another one each."""
    assert "says something twice" in door().refuse(sign_text(payload))
    assert "says something twice" in door().refuse(sign_text(json.dumps(GOOD), '{"alg":"HS256","alg":"HS256"}'))


@pytest.mark.parametrize(
    "payload", ["", "null", "[]", '"x"', "{", "{}x", "\ufeff{}", "[" * 3000 + "]" * 3000, "{'a':1}"]
)
def test_s26_a_payload_that_is_no_object_is_refused(payload: str) -> None:
    assert door().refuse(sign_text(payload)).startswith("unauthorized: ")


TRICKS = [
    "", ".", "..", "...",
    "a.b", "a.b.c.d", "a.b.c.d.e", " ", "\x00", "é.é.é", "\ud800.a.b", "=.=.=", "a..c", ".b.c",
    "Bearer x", "e30.e30.", "bnVsbA.e30.AAAA", "W10.e30.AAAA", "e30.e30.AAAA", "+/+.e30.AAAA", "A.A.A",
]  # fmt: skip


@pytest.mark.parametrize("text", TRICKS)
def test_s17_rubbish_is_refused(text: str) -> None:
    assert door().refuse(text).startswith("unauthorized: ")


def test_s17_the_same_token_in_other_letters_is_another() -> None:
    token = sign(GOOD)
    for changed in (f"{token}=", f"\0{token}", token.replace(".", ".\n"), f"{token}.", f"{token}AA"):
        assert door().refuse(changed).startswith("unauthorized: ")


def test_s17_a_token_is_bounded_before_it_is_read() -> None:
    token = sign({**GOOD, "x": "y" * 8_000})
    assert len(token) > 8_192
    assert "longer than 8192 bytes" in door().refuse(token)


MUTATED = door(*(row(algorithm) for algorithm in ALGORITHMS), max_token_seconds=0)
VALID = [sign(GOOD, algorithm) for algorithm in ALGORITHMS]


@given(st.sampled_from(VALID), st.data())
@settings(max_examples=300)
def test_s18_no_change_of_a_good_token_is_accepted(token: str, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.characters(codec="ascii") | st.sampled_from("AZaz09-_.="))
    action = data.draw(st.sampled_from(["replace", "insert", "delete", "cut", "twice"]))
    changed = {
        "replace": token[:place] + other + token[place + 1 :],
        "insert": token[:place] + other + token[place:],
        "delete": token[:place] + token[place + 1 :],
        "cut": token[:place],
        "twice": token[:place] + token[place:] + token[place:],
    }[action]
    if changed != token:
        assert isinstance(MUTATED.ask(changed), Refused)


@given(
    st.dictionaries(
        st.sampled_from(["sub", "exp", "iat", "nbf", "tenant", "roles", "permissions", "limits", "jti"]),
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        ),
    )
)
@settings(max_examples=200)
def test_s1_whatever_is_signed_gets_an_answer(claims: dict[str, Any]) -> None:
    try:
        token = sign_text(json.dumps({**GOOD, **claims}))
    except UnicodeEncodeError:
        return
    answer = MUTATED.ask(token)
    assert not MUTATED.log.of("credential_check_failed")
    if isinstance(answer, Identity):
        assert answer.expires_ms > NOW_MS


def test_roles_and_permissions_come_with_the_token() -> None:
    rows = (Permission(role="editor", publish=("docs/{user}/#",)), Permission(role="admin", publish=("#",)))
    gate = make_door(Config(tokens=(row(),), permissions=rows))
    own = {"subscribe": ["news/#"], "deny_subscribe": ["news/secret"]}
    rights = gate.let_in(sign({**GOOD, "roles": ["editor"], "permissions": own})).rights
    assert rights.may("publish", "docs/alice/1")
    assert not rights.may("publish", "docs/bob/1")
    assert rights.may("subscribe", "news/today")
    assert not rights.may("subscribe", "news/secret")
    assert not rights.may("publish", "other")


@pytest.mark.parametrize(("claim", "said", "roles"), [
    ("roles", {"roles": ["a", "b"]}, {"a", "b"}),
    ("scope", {"scope": "read write"}, {"read", "write"}),
    ("realm_access.roles", {"realm_access": {"roles": ["a"]}}, {"a"}),
    ("https://x.example/roles", {"https://x.example/roles": ["a"]}, {"a"}),
    ("roles", {}, set()),
    ("realm_access.roles", {"realm_access": 5}, set()),
    ("", {"roles": 5}, set()),
])  # fmt: skip
def test_roles_stand_where_the_configuration_says(claim: str, said: dict[str, Any], roles: set[str]) -> None:
    assert door(row(roles_claim=claim)).let_in(sign({**GOOD, **said})).roles == roles


@pytest.mark.parametrize("roles", [5, {"a": 1}, [5], [""], ["a", None], ["x"] * 65, ["\ud800"]])
def test_s14_roles_that_are_not_right_let_nobody_in(roles: Any) -> None:
    assert "roles" in door().refuse(sign_text(json.dumps({**GOOD, "roles": roles})))


@pytest.mark.parametrize("permissions", [
    5, [], ["read:all"], "x", {"publsh": ["a"]}, {"deny_publsh": ["a"]}, {"deny_": ["a"]}, {"publish": "a"},
    {"publish": ["a/#/b"]}, {"deny_publish": ["a//b"]}, {"publish": [5]}, {"publish": [""]},
    {"publish": ["a"] * 257},
    {"publish": None}, {"publish": {"a": 1}}, {"publish": ["\u0007"]},
])  # fmt: skip
def test_s14_broken_permissions_in_a_token_let_nobody_in(permissions: Any) -> None:
    """Passed over, a broken denial would open what it was to close."""
    assert "its permissions" in door().refuse(sign_text(json.dumps({**GOOD, "permissions": permissions})))


def test_more_rules_than_can_be_judged_let_nobody_in() -> None:
    many = {action: [f"{action}/{n}" for n in range(256)] for action in ("publish", "subscribe", "history")}
    config = Config(tokens=(row(),), permissions=(Permission(publish=tuple(f"p/{n}" for n in range(600))),))
    assert "its rules cannot hold" in make_door(config).refuse(sign(GOOD))
    assert "longer than" in door().refuse(sign({**GOOD, "permissions": many}))


@pytest.mark.parametrize("word", ["publish", "deny_subscribe"])
@pytest.mark.parametrize("rule", ["x/{user}", "{tenant}/#", "x/{claims.org}/y", "x/to-{user}"])
def test_s14_a_placeholder_in_a_token_lets_nobody_in(word: str, rule: str) -> None:
    """Nothing is filled in there; as letters, an allow would give nothing and a denial would deny nothing."""
    reason = door().refuse(sign({**GOOD, "permissions": {word: ["a", rule]}}))
    assert f"its permissions.{word} holds {{" in reason
    assert "only in [[permissions]]" in reason


@pytest.mark.parametrize("around", ["{}\n", "\r\n{}", " {}\t", "{}\f\v"])
def test_white_space_around_a_token_is_no_part_of_it(around: str) -> None:
    """SPEC 11.1.1: files end with an end of line."""
    token = around.format(sign(GOOD))
    assert door().let_in(token).user == door().let_in("", Arrival(token=token)).user == "alice"
    longest = door()
    assert "longer than" in longest.refuse("x" * 8_193 + "\n")


@pytest.mark.parametrize("inside", ["\u00a0{}", "{}\u2028", "{}\x00", "{}\x1f"])
def test_s17_what_is_no_white_space_of_ascii_stays_in_a_token(inside: str) -> None:
    assert "looks like none" in door().refuse(inside.format(sign(GOOD)))


def test_s15_white_space_alone_is_a_wrong_credential_and_not_none() -> None:
    assert "nothing but white space" in door(anonymous=True).refuse(" \n")
    assert "nothing but white space" in door().refuse("\n", Arrival(token=sign(GOOD)))


def test_limits_in_a_token_lower_what_it_may() -> None:
    assert door().let_in(sign({**GOOD, "limits": {"max_subscriptions": 3}})).limits == {"max_subscriptions": 3}
    assert "its limits cannot hold" in door().refuse(sign({**GOOD, "limits": {"max_subscriptions": "3"}}))


def test_the_token_of_the_packet_wins_over_that_of_the_handshake() -> None:
    other = sign({**GOOD, "sub": "bob"})
    assert door().let_in(sign(GOOD), Arrival(token=other)).user == "alice"
    assert door().let_in("", Arrival(token=other)).user == "bob"
    assert "signature" in door().refuse(sign(GOOD)[:-4] + "AAAA", Arrival(token=other))


def test_s10_a_token_stands_in_no_log_and_no_answer() -> None:
    strict = door(row(kid="k1"), row("RS256", kid="k2"))
    canary = "canary" * 6
    tokens = [
        sign({**GOOD, "sub": canary}, "HS256", canary * 2),
        sign({**GOOD, "exp": NOW - 6000, "jti": canary}),
        sign({**GOOD, "roles": {canary: 1}}),
        sign({**GOOD, "permissions": {canary: 1}}),
        sign({**GOOD, "permissions": {"publish": [f"{canary}#"]}}),
        f"tk_000000000000_{canary}",
        f"{canary}.{canary}.{canary}",
        canary,
    ]
    for token in tokens:
        answer = strict.ask(token)
        assert isinstance(answer, Refused)
        said = f"{answer.args} {answer!r} {strict.log.lines} {strict.authority!r}"
        assert canary not in said
        assert not [piece for piece in token.split(".") if len(piece) > 8 and piece in said]


def test_the_log_of_refusals_is_bounded_and_says_what_it_left_out() -> None:
    gate = door()
    for _ in range(50):
        gate.ask("rubbish", Arrival("192.0.2.7"))
    assert len(gate.log.of("credential_refused")) == 20
    assert gate.log.of("credential_refused")[0]["address"] == "192.0.2.7"
    gate.clock.ms += 10_000
    gate.ask("rubbish")
    assert gate.log.of("credential_refused")[-1]["untold"] == 30
