"""Settings of who may connect: contradictions, and keys that would end the start, told in sentences that help."""

from pathlib import Path

import pytest
from triode_broker.cli.access import key_problems
from triode_broker.cli.exit_codes import ExitCode
from triode_broker.cli.main import main
from triode_broker.cli.settings import BadSettings, load

TOKENS = '[[tokens]]\nalgorithm = "HS256"\nkey_env = "KEY"\n'


def problems(folder: Path, text: str) -> list[str]:
    file = folder / "triode.toml"
    file.write_text(text)
    with pytest.raises(BadSettings) as caught:
        load(environ={"KEY": "x" * 32}, file=file)
    return [one.removeprefix(f"{file}: ") for one in caught.value.problems]


CONTRADICTIONS = [
    ("[[tokens]]\n", "tokens #1 key_file: there is no key: give key_file = FILE, key_env"),
    ('[[tokens]]\nkey_file = "a"\njwks_url = "https://i.example/"\n', "tokens #1 key_file: and jwks_url is given"),
    ('[[tokens]]\nalgorithm = "HS256"\njwks_url = "https://a.example/"\n', 'tokens #1 algorithm = "HS256": a'),
    ('[[tokens]]\njwks_url = "ftp://a.example/"\n', 'tokens #1 jwks_url = "ftp://a.example/": not an https'),
    ('[[tokens]]\njwks_url = "https://a:b@id.example/"\n', "tokens #1 jwks_url: holds a user"),
    ('[[tokens]]\njwks_url = "https://id.example:x/"\n', "tokens #1 jwks_url = "),
    ('[[tokens]]\njwks_url = "http://id.example/"\n', "tokens.jwks_url: who answers there is not proved"),
    (TOKENS + 'user_claim = ""\n', 'tokens #1 user_claim = "": a token has to say whose it is'),
    ('[auth]\ncallout_url = "auth.example"\n', 'auth.callout_url = "auth.example": not an https:// URL'),
    ('[auth]\ncallout_url = "http://auth.example/"\n', "auth.callout_url: who answers there is not proved"),
    ('[auth]\nanonymous = true\ncallout_secret_file = "a"\n', "auth.callout_secret_file: there is nobody to"),
    (
        '[auth]\ncallout_url = "https://a.example/"\ncallout_secret_file = "a"\ncallout_secret_env = "KEY"\n',
        "auth.callout_secret_file: and auth.callout_secret_env is given too",
    ),
    ("[auth]\ncertificates = true\n", "auth.certificates = true: clients are not asked for certificates"),
    ('[[permissions]]\npublish = ["#"]\n', "permissions: nobody can come in to whom they could be given"),
    (TOKENS + '[[permissions]]\npublish = ["a/#/b"]\n', "permissions #1 publish: 'a/#/b' is not a filter"),
    (TOKENS + '[[permissions]]\ndeny_consume = ["a-{user}"]\n', "permissions #1 deny_consume: 'a-{user}' is no"),
    ('[limits]\nmax_topic_levels = 2\n' + TOKENS + '[[permissions]]\npublish = ["a/b/#", "a/{user}/c"]\n',
     'permissions #1 publish: "a/{user}/c" matches nothing: topics have at most limits.max_topic_levels = 2'),
    (TOKENS + '[[permissions]]\nrole = "anonymous"\n', 'permissions #1 role = "anonymous": they are not let in'),
    ('[admin]\nlisten = "7402"\ntoken_env = "KEY"\n', "admin.listen: '7402' is not an address"),
    ('[admin]\nlisten = "127.0.0.1:7402"\n', 'admin.listen = "127.0.0.1:7402": nobody is let in there without a'),
    ('[admin]\ntoken_env = "KEY"\n', "admin.token_env: there is nothing to show it to"),
    ('[admin.tls]\ncertificate = "a.pem"\n', "admin.tls.certificate: there is no listener for it"),
    ('[admin]\nlisten = "127.0.0.1:7400"\ntoken_env = "KEY"\n', 'admin.listen = "127.0.0.1:7400": clients come'),
    (
        'cluster_listen = "127.0.0.1:7402"\n[admin]\nlisten = "127.0.0.1:7402"\ntoken_env = "KEY"\n',
        'admin.listen = "127.0.0.1:7402": nodes come in there',
    ),
    (
        '[admin]\nlisten = "127.0.0.1:7402"\ntoken_env = "KEY"\ntoken_file = "a"\n',
        "admin.token_file: and admin.token_env is given too",
    ),
    (
        '[admin]\nlisten = "0.0.0.0:7402"\ntoken_env = "KEY"\n',
        'admin.listen = "0.0.0.0:7402": others can reach this address, and the operators\' secret would cross',
    ),
]  # fmt: skip


@pytest.mark.parametrize(("text", "problem"), CONTRADICTIONS)
def test_what_contradicts_itself_is_told(tmp_path: Path, text: str, problem: str) -> None:
    *also, found = problems(tmp_path, text)
    assert found.startswith(problem)
    assert all("is not proved" in one for one in also), "what is no URL is not a safe one either"


def test_the_variable_of_a_key_may_have_any_name(tmp_path: Path) -> None:
    file = tmp_path / "triode.toml"
    file.write_text('[[tokens]]\nalgorithm = "HS256"\nkey_env = "TRIODE_JWT_SECRET"\n')
    environ = {"TRIODE_JWT_SECRET": "x" * 32}
    config = load(environ=environ, file=file).config
    assert list(key_problems(config, environ)) == []
    ((name, wrong),) = key_problems(config, {})
    assert name == "tokens #1 key_env"
    assert wrong == ": the variable TRIODE_JWT_SECRET of the environment is not set"


def test_s14_keys_are_read_by_check_and_told_by_the_file_they_stand_in(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KEY", raising=False)
    file = tmp_path / "triode.toml"
    secret = tmp_path / "secret"
    secret.write_text("x" * 40)
    secret.chmod(0o644)
    keys = f'[auth]\napi_keys_file = "{tmp_path}/none"\ncallout_url = "https://a.example/"\n'
    keys += 'callout_secret_env = "NONE"\n[admin]\nlisten = "127.0.0.1:7402"\n'
    keys += f'token_file = "{secret}"\n'
    file.write_text(f'{keys}{TOKENS}[[tokens]]\nalgorithm = "HS512"\nkey_file = "{secret}"\n')
    assert main(["serve", "--check", "--config", str(file)]) == ExitCode.USAGE
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "triode serve: 5 problems in the settings"
    assert lines[1] == f"  {file}: tokens #1 key_env: the variable KEY of the environment is not set"
    assert lines[2].startswith(f"  {file}: tokens #2 key_file: {secret}: others of this machine may read it")
    assert lines[3].startswith(
        f"  {file}: auth.api_keys_file: {tmp_path}/none: there is no such file; triode token key create --file"
    )
    assert lines[4] == f"  {file}: auth.callout_secret_env: the variable NONE of the environment is not set"
    assert lines[5].startswith(f"  {file}: admin.token_file: {secret}: others of this machine may read it")
    secret.chmod(0o600)
    assert load(file=file).config.tokens[1].key_file == str(secret), "who administers need not read keys"
