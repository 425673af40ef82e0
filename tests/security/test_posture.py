"""S14, S15: what is not safe is refused or told, in the same words everywhere; nothing is open by default."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from triode_broker.cli.exit_codes import ExitCode
from triode_broker.cli.main import main
from triode_broker.cli.settings import BadSettings, load
from triode_broker.config import Admin, Auth, Config, Permission, Tls, TokenKey
from triode_broker.posture import is_open, unsafe

from tests.authority import issue
from tests.cli.programs import Triode, run

KEYS = (TokenKey(algorithm="HS256", key_env="KEY"),)
RULES = (Permission(subscribe=("#",)),)
PUBLIC = "0.0.0.0:7400"


def names(**settings: Any) -> list[str]:
    return [one.name for one in unsafe(Config(**settings))]


def test_s15_the_defaults_are_safe_and_reach_nobody_but_this_machine() -> None:
    assert unsafe(Config()) == []
    assert is_open(Config())


@pytest.mark.parametrize("listen", ["0.0.0.0:7400", "[::]:7400", ":7400", "10.0.0.1:7400", "broker.example:7400"])
def test_s15_an_open_broker_on_a_network_is_refused(listen: str) -> None:
    (one,) = [one for one in unsafe(Config(listen=listen)) if one.is_refused]
    assert one.name == "listen"
    with pytest.raises(BadSettings, match=r"listen = .*who they are.*--insecure"):
        load({"listen": listen})
    assert load({"listen": listen, "insecure": True}).config.insecure


def test_s29_operators_are_served_on_this_machine_or_behind_tls() -> None:
    """And never without a secret, insecure or not."""
    admin = {"listen": "10.0.0.1:7402", "token_file": "secret"}
    (one,) = unsafe(Config(admin=Admin(**admin)))  # type: ignore[arg-type]  # texts only
    assert (one.name, one.is_refused) == ("admin.listen", True)
    assert not names(admin=Admin("127.0.0.1:7402", "secret"))
    assert not names(admin=Admin("10.0.0.1:7402", "secret", tls=Tls(certificate="a.pem")))
    with pytest.raises(BadSettings, match="nobody is let in there without a secret"):
        load({"insecure": True}, {"TRIODE_ADMIN_LISTEN": "127.0.0.1:7402"})


@pytest.mark.parametrize(
    "asks",
    [
        {"tokens": KEYS},
        {"permissions": RULES},
        {"auth": Auth(anonymous=True)},
        {"auth": Auth(api_keys_file="keys")},
        {"auth": Auth(certificates=True)},
        {"auth": Auth(callout_url="https://auth.example/")},
    ],
)
def test_whatever_asks_who_clients_are_closes_the_door(asks: dict[str, Any]) -> None:
    assert not is_open(Config(**asks))
    assert not [one for one in unsafe(Config(listen=PUBLIC, **asks)) if one.is_refused]


def test_credentials_in_plain_text_are_told_but_for_a_proxy_that_ends_tls() -> None:
    assert names(listen=PUBLIC, tokens=KEYS) == ["tls.certificate"]
    assert names(listen=PUBLIC, tokens=KEYS, trusted_proxies=("10.0.0.0/8",)) == []
    assert names(listen=PUBLIC, tokens=KEYS, tls=Tls(certificate="a.pem")) == []
    assert names(cluster_listen="10.0.0.1:7401") == ["cluster_tls.certificate"]
    assert names(cluster_listen="127.0.0.1:7401") == []


def test_s15_each_insecure_setting_says_so() -> None:
    assert names(origins=("*",)) == ["origins"]
    assert names(auth=Auth(query_token=True)) == ["auth.query_token"]
    assert names(insecure=True) == ["insecure"]


@pytest.mark.parametrize(
    ("url", "is_told"),
    [("http://auth.example/", True), ("https://auth.example/", False), ("http://127.0.0.1:1/", False)],
)
def test_who_answers_for_credentials_is_proved(url: str, is_told: bool) -> None:
    assert names(auth=Auth(callout_url=url)) == ["auth.callout_url"] * is_told
    assert names(tokens=(TokenKey(jwks_url=url),)) == ["tokens.jwks_url"] * is_told


def test_what_is_no_url_is_not_judged_here() -> None:
    """The command line says what is wrong with it, in place of a traceback."""
    assert names(auth=Auth(callout_url="http://[::1")) == []


async def test_s15_a_broker_that_insists_shows_it_in_log_and_health() -> None:
    serve = ("serve", "--listen", "0.0.0.0:0", "--log-format", "json")
    refused = await run(*serve)
    assert refused.code == ExitCode.USAGE
    assert "--insecure" in refused.errors
    async with Triode(*serve, "--insecure") as program:
        output = program.errors()
        warned = [await output.until('"insecure"') for _ in range(2)]
        assert all('"level":"warning"' in line.replace(" ", "") for line in warned)
        (url,) = json.loads(await output.until('"started"'))["urls"]
        async with httpx.AsyncClient() as http:
            report = (await http.get(f"{url}/healthz")).json()
        assert report["insecure"] == ["listen", "insecure"]


def test_s15_check_warns_of_what_is_not_safe_and_is_content(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """S15, S21: what a start would log and health would show is told before."""
    files = issue(tmp_path / "own", "broker.example", days=-1, age_days=9)
    file = tmp_path / "triode.toml"
    file.write_text(
        'listen = "0.0.0.0:7400"\ninsecure = true\norigins = ["*"]\n[auth]\nanonymous = true\nquery_token = true\n'
        f'[tls]\ncertificate = "{files.certificate}"\nkey = "{files.key}"\n'
    )
    assert main(["serve", "--check", "--config", str(file)]) == ExitCode.OK
    told = capsys.readouterr()
    lines = told.err.splitlines()
    assert [line.partition(":")[2].split()[:2] for line in lines] == [
        [f"{file}:", "origins:"],
        [f"{file}:", "auth.query_token:"],
        [f"{file}:", "insecure:"],
        ["permissions:", "there"],
        [f"{file}:", "tls.certificate"],
    ]
    assert lines[-1] == f"warning: {file}: tls.certificate has expired"
    assert 'listen = "0.0.0.0:7400"' in told.out
    file.write_text("")
    assert main(["serve", "--check", "--config", str(file)]) == ExitCode.OK
    assert capsys.readouterr().err == ""
