"""`triode token`: what it makes a broker accepts, what it says a broker would say, and where secrets go."""

import json
import os
import stat
import time
from pathlib import Path

import jwt
import pytest
from triode_broker.auth.api_keys import read_keys
from triode_broker.cli.exit_codes import ExitCode
from triode_broker.cli.main import main

CONFIG = """
[auth]
api_keys_file = "keys"

[[tokens]]
name = "dev"
algorithm = "HS256"
key_file = "jwt.secret"
issuer = "https://id.example/"
audience = "triode"
kid = "k1"

[[tokens]]
name = "edge"
algorithm = "ES256"
key_file = "check.pem"
tenant_claim = ""
roles_claim = "scope"

[[permissions]]
role = "editor"
publish = ["docs/{user}/#"]
deny_publish = ["docs/{user}/final"]
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, and no settings of this shell."""
    for name in [name for name in os.environ if name.startswith("TRIODE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def ready(folder: Path, capfd: pytest.CaptureFixture[str]) -> Path:
    """A configuration with two keys of tokens and a file of API keys."""
    Path("triode.toml").write_text(CONFIG)
    assert main(["token", "generate-secret", "--file", "jwt.secret"]) == ExitCode.OK
    assert main(["token", "generate-key", "--private", "sign.pem", "--public", "check.pem"]) == ExitCode.OK
    assert main(["token", "key", "create", "--file", "keys", "--user", "billing"]) == ExitCode.OK
    capfd.readouterr()
    return folder


def test_a_secret_in_a_file_says_all_that_it_is_good_for(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["token", "generate-secret", "--file", "a.secret"]) == ExitCode.OK
    said = capfd.readouterr().err
    uses = ("[admin] token_file", "[[tokens]] key_file", "[[webhooks]] secret_file", "cluster_secret_file")
    assert [use for use in uses if use not in said] == []


def made(capfd: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What `triode token …` prints to stdout."""
    assert main(["token", *arguments]) == ExitCode.OK
    return capfd.readouterr().out.strip()


def inspected(
    capfd: pytest.CaptureFixture[str], token: str, *arguments: str, code: ExitCode = ExitCode.OK
) -> dict[str, object]:
    """What `triode token inspect` makes of it."""
    Path("a.token").write_text(token)
    assert main(["token", "inspect", "--token-file", "a.token", "--json", *arguments]) == code
    found: dict[str, object] = json.loads(capfd.readouterr().out)
    return found


def refused(capfd: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Why it did nothing."""
    assert main(["token", *arguments]) in (ExitCode.USAGE, ExitCode.FAILURE)
    output = capfd.readouterr()
    assert output.out == ""
    return output.err


def test_a_token_is_made_for_a_row_and_accepted_by_it(ready: Path, capfd: pytest.CaptureFixture[str]) -> None:
    token = made(
        capfd, "create", "--config", "triode.toml", "--row", "dev", "--user", "ada", "--tenant", "acme",
        "--role", "editor", "--subscribe", "news/#", "--deny-subscribe", "news/x", "--for", "5m", "--claim", "n=5",
        "--claim", "t=red",
    )  # fmt: skip
    found = inspected(capfd, token, "--config", "triode.toml")
    assert found["header"] == {"alg": "HS256", "typ": "JWT", "kid": "k1"}
    claims = found["claims"]
    assert isinstance(claims, dict)
    assert claims["exp"] - claims["iat"] == 300
    assert (claims["sub"], claims["n"], claims["t"], claims["iss"]) == ("ada", 5, "red", "https://id.example/")
    assert found["verdict"] == "accepted"
    assert found["identity"] == {
        "user": "ada", "tenant": "acme", "roles": ["editor"], "method": "token", "expires_ms": claims["exp"] * 1000
    }  # fmt: skip
    rights = found["rights"]
    assert isinstance(rights, dict)
    assert rights["publish"] == {"allow": ["docs/ada/#"], "deny": ["docs/ada/final"]}
    assert rights["subscribe"] == {"allow": ["news/#"], "deny": ["news/x"]}


def test_a_private_key_signs_for_a_row_with_the_public_one(ready: Path, capfd: pytest.CaptureFixture[str]) -> None:
    create = ("create", "--config", "triode.toml", "--row", "edge", "--user", "ada")
    token = made(capfd, *create, "--key-file", "sign.pem", "--role", "editor")
    assert inspected(capfd, token, "--config", "triode.toml")["verdict"] == "accepted"
    assert "give the private one: --key-file FILE" in refused(capfd, *create)
    Path("check.pem").chmod(0o600)
    assert "holds a public key" in refused(capfd, *create, "--key-file", "check.pem")
    assert "takes no tenants" in refused(capfd, *create, "--key-file", "sign.pem", "--tenant", "acme")
    assert "choose one with --row NAME of dev, edge" in refused(capfd, *create[:3], "--user", "ada")
    assert "there is no such row" in refused(capfd, *create[:3], "--user", "ada", "--row", "x")


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_a_pair_of_keys_works_and_fits(capfd: pytest.CaptureFixture[str], algorithm: str) -> None:
    pair = ("generate-key", "--algorithm", algorithm, "--private", "p.pem", "--public", "q.pem")
    made(capfd, *pair)
    assert stat.S_IMODE(Path("p.pem").stat().st_mode) == 0o600
    token = made(capfd, "create", "--key-file", "p.pem", "--user", "ada")
    Path("t.toml").write_text(f'[[tokens]]\nalgorithm = "{algorithm}"\nkey_file = "q.pem"\n')
    assert inspected(capfd, token, "--config", "t.toml")["verdict"] == "accepted"
    assert "p.pem: is there already" in refused(capfd, *pair)


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_a_secret_is_long_enough(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, algorithm: str
) -> None:
    monkeypatch.setenv("TRIODE_JWT_SECRET", made(capfd, "generate-secret", "--algorithm", algorithm))
    Path("t.toml").write_text(f'[[tokens]]\nalgorithm = "{algorithm}"\nkey_env = "TRIODE_JWT_SECRET"\n')
    token = made(capfd, "create", "--config", "t.toml", "--user", "ada")
    found = inspected(capfd, token, "--config", "t.toml")
    assert (found["verdict"], found["header"]) == ("accepted", {"alg": algorithm, "typ": "JWT"})


def test_what_a_broker_would_refuse_is_said(ready: Path, capfd: pytest.CaptureFixture[str]) -> None:
    token = made(capfd, "create", "--key-file", "jwt.secret", "--user", "ada")
    found = inspected(capfd, token, "--config", "triode.toml", code=ExitCode.REFUSED)
    assert (found["verdict"], found["reason"]) == ("refused", "its iss is not the configured issuer")
    found = inspected(capfd, token[:-6] + "AAAAAA", "--config", "triode.toml", code=ExitCode.REFUSED)
    assert found["reason"] == "no configured key has made its signature"
    assert "verdict" not in inspected(capfd, token)
    found = inspected(capfd, "rubbish", "--config", "triode.toml", code=ExitCode.REFUSED)
    assert "none of the kinds" in str(found["reason"])
    Path("x.token").write_text("rubbish")
    assert "this is not a JWT" in refused(capfd, "inspect", "--token-file", "x.token")


def test_what_cannot_be_told_without_a_network_is_said(ready: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Path("t.toml").write_text('[[tokens]]\njwks_url = "https://id.example/keys"\n')
    made(capfd, "generate-key", "--algorithm", "RS256", "--private", "p.pem", "--public", "q.pem")
    token = made(capfd, "create", "--key-file", "p.pem", "--user", "ada")
    found = inspected(capfd, token, "--config", "t.toml", code=ExitCode.FAILURE)
    assert "save that document and name it with --jwks FILE" in str(found["reason"])
    Path("keys.json").write_text('{"keys": []}')
    found = inspected(capfd, token, "--config", "t.toml", "--jwks", "keys.json", code=ExitCode.REFUSED)
    assert "it names a key that none" in str(found["reason"])
    Path("t.toml").write_text('[auth]\ncallout_url = "https://id.example/who"\n')
    found = inspected(capfd, token, "--config", "t.toml", code=ExitCode.FAILURE)
    assert found["reason"] == "https://id.example/who would be asked who that is"


def test_people_read_lines_without_control_characters(ready: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Path("a.token").write_text(
        made(capfd, "create", "--key-file", "jwt.secret", "--user", "ada", "--claim", "x=\x1b[2J", "--issuer", "i")
    )
    assert main(["token", "inspect", "--token-file", "a.token", "--config", "triode.toml"]) == ExitCode.REFUSED
    output = capfd.readouterr().out
    assert "\x1b" not in output
    assert "verdict         refused (unauthorized): its iss is not the configured issuer\n" in output
    token = made(capfd, "create", "--config", "triode.toml", "--row", "dev", "--user", "ada", "--role", "editor")
    Path("a.token").write_text(token)
    assert main(["token", "inspect", "--token-file", "a.token", "--config", "triode.toml"]) == ExitCode.OK
    output = capfd.readouterr().out
    assert "may publish     docs/ada/#, but not docs/ada/final\n" in output
    assert "may consume     nothing\n" in output
    assert token.rpartition(".")[2] not in output, "S10: the signature is what lets its bearer in"


def test_the_token_comes_from_the_environment_too(
    ready: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "which token?" in refused(capfd, "inspect")
    monkeypatch.setenv("TRIODE_TOKEN", made(capfd, "create", "--key-file", "jwt.secret", "--user", "ada"))
    assert main(["token", "inspect"]) == ExitCode.OK
    assert "verdict         not checked" in capfd.readouterr().out
    monkeypatch.setenv("TRIODE_TOKEN", " ")
    assert "is empty" in refused(capfd, "inspect")
    assert "cannot be read" in refused(capfd, "inspect", "--token-file", "none")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--user", ""), "--user is empty"),
        (("--user", "a\x00"), "--user is empty, longer than 255 bytes or cannot be printed"),
        (("--user", "a", "--tenant", "a/b"), "--tenant is not a tenant's name"),
        (("--user", "a", "--publish", "a/#/b"), "permissions.publish holds what is not a filter"),
        (("--user", "a", "--publish", "a/{user}"), "permissions.publish holds {user}, which stands for nothing"),
        (("--user", "a", "--deny-publish", "{claims.x}/a"), "permissions.deny_publish holds {claims.x}"),
        (("--user", "a", "--role", ""), "--role is empty"),
        (("--user", "a", "--claim", "x"), "--claim x: allowed is NAME=VALUE"),
        (("--user", "a", "--for", "ever"), "a token says when it ends"),
        (("--user", "a", "--key-file", "none"), "--key-file none: there is no such file"),
        (("--user", "a", "--key-file", "open.secret"), "others of this machine may read it"),
        (("--user", "a", "--key-file", "short.secret"), "holds 5 bytes, and HS256 needs at least 32"),
        (("--user", "a", "--key-file", "jwt.secret", "--algorithm", "ES256"), "is not a private key in PEM"),
        (("--user", "a", "--key-file", "sign.pem", "--algorithm", "RS256"), "is not an RSA key"),
        (("--user", "a", "--key-env", "NONE"), "--key-env NONE: this variable of the environment is not set"),
    ],
)
def test_a_wrong_argument_is_told(
    ready: Path, capfd: pytest.CaptureFixture[str], arguments: tuple[str, ...], reason: str
) -> None:
    Path("open.secret").write_text("x" * 40)
    Path("open.secret").chmod(0o644)
    Path("short.secret").touch(0o600)
    Path("short.secret").write_text("short")
    key = () if "--key-file" in arguments or "--key-env" in arguments else ("--key-file", "jwt.secret")
    assert reason in refused(capfd, "create", *key, *arguments)


def test_a_key_to_sign_with_has_to_be_named(capfd: pytest.CaptureFixture[str]) -> None:
    assert "with which key?" in refused(capfd, "create", "--user", "ada")
    Path("plain.pem").touch(0o600)
    Path("plain.pem").write_text("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    assert "is not a private key in PEM" in refused(capfd, "create", "--key-file", "plain.pem", "--user", "ada")


def test_api_keys_are_made_listed_and_revoked(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    first = made(
        capfd, "key", "create", "--file", "keys", "--user", "billing", "--tenant", "acme", "--role", "service",
        "--publish", "invoices/#", "--for", "30d",
    )  # fmt: skip
    second = made(capfd, "key", "create", "--file", "keys", "--user", "audit")
    assert stat.S_IMODE(Path("keys").stat().st_mode) == 0o600
    assert first not in Path("keys").read_text()
    assert first[16:] not in Path("keys").read_text(), "S10: the file holds hashes"
    one, two = read_keys("keys")
    assert (one.user, one.tenant, one.roles, one.permissions) == (
        "billing", "acme", ("service",), {"publish": ["invoices/#"]}
    )  # fmt: skip
    assert one.expires_ms - one.created_ms == 30 * 86_400_000
    assert two.expires_ms == 0
    Path("t.toml").write_text('[auth]\napi_keys_file = "keys"\n')
    assert inspected(capfd, first, "--config", "t.toml")["verdict"] == "accepted"
    assert main(["token", "key", "revoke", two.id, "--file", "keys"]) == ExitCode.OK
    assert "SIGHUP" in capfd.readouterr().err
    found = inspected(capfd, second, "--config", "t.toml", code=ExitCode.REFUSED)
    assert found["error"] == "revoked"
    listed = made(capfd, "key", "list", "--file", "keys").splitlines()
    assert listed[0].split() == ["ID", "USER", "TENANT", "ROLES", "STATE", "EXPIRES"]
    assert [line.split()[4] for line in listed[1:]] == ["good", "revoked"]
    shown = json.loads(made(capfd, "key", "list", "--file", "keys", "--json"))
    assert [(key["id"], key["state"]) for key in shown] == [(one.id, "good"), (two.id, "revoked")]
    assert "sha256" not in shown[0]
    assert sorted(path.name for path in folder.iterdir()) == ["a.token", "keys", "t.toml"], "nothing is left over"


def test_a_token_is_good_for_no_longer_than_the_broker_allows(
    ready: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for lasts, said in (("2h", "good for 7200 s, id"), ("30d", "good for 86400 s: auth.max_token_seconds allows")):
        create = ["create", "--config", "triode.toml", "--row", "dev", "--user", "ada", "--for", lasts]
        assert main(["token", *create]) == ExitCode.OK
        assert said in capfd.readouterr().err


def test_a_token_whose_time_has_just_passed_says_why_it_is_good(
    ready: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    now = int(time.time())
    claims = {"sub": "ada", "iss": "https://id.example/", "aud": "triode", "iat": now - 60, "exp": now - 5}
    Path("late").write_text(jwt.encode(claims, Path("jwt.secret").read_text().strip(), "HS256"))
    assert main(["token", "inspect", "--config", "triode.toml", "--token-file", "late"]) == ExitCode.OK
    assert "its exp has passed, and auth.leeway_seconds" in capfd.readouterr().out


def test_s14_a_placeholder_is_no_rule_of_a_key(capfd: pytest.CaptureFixture[str]) -> None:
    wrong = refused(capfd, "key", "create", "--file", "keys", "--user", "a", "--subscribe", "rooms/{user}/#")
    assert "permissions.subscribe holds {user}" in wrong
    assert not Path("keys").exists()


def test_a_file_of_keys_is_found_by_the_brokers_variable(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "in which file?" in refused(capfd, "key", "list")
    monkeypatch.setenv("TRIODE_AUTH_API_KEYS_FILE", "keys")
    assert "it is not there" in refused(capfd, "key", "list")
    assert "it is not there" in refused(capfd, "key", "revoke", "x")
    assert not Path("keys").exists()
    made(capfd, "key", "create", "--user", "a")
    assert "there is no key x" in refused(capfd, "key", "revoke", "x")
    assert "its folder is not there" in refused(capfd, "key", "create", "--user", "a", "--file", "none/keys")


def test_s14_a_broken_file_of_keys_is_not_written_over(capfd: pytest.CaptureFixture[str]) -> None:
    Path("keys").touch(0o600)
    Path("keys").write_text('{"id":')
    assert "it was cut off" in refused(capfd, "key", "create", "--file", "keys", "--user", "a")
    assert Path("keys").read_text() == '{"id":'


def test_a_file_of_keys_keeps_its_owner_and_its_group(capfd: pytest.CaptureFixture[str]) -> None:
    made(capfd, "key", "create", "--file", "keys", "--user", "a")
    if os.geteuid() == 0:
        os.chown("keys", 12_345, 12_346)
    before = Path("keys").stat()
    Path("link").symlink_to("keys")
    made(capfd, "key", "create", "--file", "link", "--user", "b")
    after = Path("keys").stat()
    assert (after.st_uid, after.st_gid, after.st_mode) == (before.st_uid, before.st_gid, before.st_mode)
    assert Path("link").is_symlink()
    assert len(read_keys("keys")) == 2
