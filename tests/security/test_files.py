"""S14: files that say who may come in or who we are: broken in whatever way, they keep the broker from starting.

One configuration names one of each kind. It is good until one of its files is not; then the check of the settings,
without which nothing starts, says so by the setting's name.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from triode_broker.auth.api_keys import make_key
from triode_broker.cli.exit_codes import ExitCode
from triode_broker.cli.main import main

from tests.auth.making import EC, public
from tests.authority import issue

#: The setting by which each file is told, and whether others may not even read it.
KINDS: Final = {
    "jwt.secret": ("tokens #1 key_file", True),
    "check.pem": ("tokens #2 key_file", False),
    "api-keys": ("auth.api_keys_file", True),
    "callout.secret": ("auth.callout_secret_file", True),
    "cluster.secret": ("cluster_secret_file", True),
    "front/cert.pem": ("tls.certificate", False),
    "front/key.pem": ("tls.key", True),
    "front/ca.pem": ("tls.client_ca", False),
    "peers/cert.pem": ("cluster_tls.certificate", False),
    "peers/key.pem": ("cluster_tls.key", True),
    "peers/ca.pem": ("cluster_tls.client_ca", False),
}
SETTINGS = """
listen = "127.0.0.1:0"
cluster_listen = "127.0.0.1:0"
cluster_advertise = "wss://127.0.0.1:7401"
cluster_secret_file = "cluster.secret"
node = "n1"
durable = ["n1"]
data = "data"
[tls]
certificate = "front/cert.pem"
key = "front/key.pem"
client_ca = "front/ca.pem"
client_certificates = "optional"
[cluster_tls]
certificate = "peers/cert.pem"
key = "peers/key.pem"
client_ca = "peers/ca.pem"
[auth]
api_keys_file = "api-keys"
callout_url = "https://auth.example/"
callout_secret_file = "callout.secret"
certificates = true
[[tokens]]
algorithm = "HS256"
key_file = "jwt.secret"
[[tokens]]
algorithm = "ES256"
key_file = "check.pem"
[[permissions]]
subscribe = ["#"]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where everything is as it should be."""
    for name in [name for name in os.environ if name.startswith("TRIODE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    issue(tmp_path / "front", "localhost")
    issue(tmp_path / "peers", "n1")
    key, _ = make_key(user="billing")
    secret = b"0123456789abcdef" * 2
    for name, content in {
        "jwt.secret": secret,
        "callout.secret": secret[:16],
        "cluster.secret": secret[:16],
        "check.pem": public(EC),
        "api-keys": msgspec.json.encode(key) + b"\n",
        "triode.toml": SETTINGS.encode(),
    }.items():
        (tmp_path / name).touch(0o600)
        (tmp_path / name).write_bytes(content)
    return tmp_path


def _become_a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


FAULTS: Final[dict[str, Callable[[Path], Any]]] = {
    "empty": lambda file: file.write_bytes(b""),
    "blank": lambda file: file.write_bytes(b" \n\n"),
    "truncated": lambda file: file.write_bytes(file.read_bytes()[: len(file.read_bytes()) // 2]),
    "zeroed": lambda file: file.write_bytes(bytes(len(file.read_bytes()))),
    "missing": Path.unlink,
    "unreadable": _become_a_folder,
}


def check() -> int:
    """What becomes of the settings; no broker is started."""
    return main(["serve", "--config", "triode.toml", "--check"])


def test_s14_with_good_files_the_settings_are_good(folder: Path) -> None:
    """S14: or what follows would show nothing."""
    assert check() == ExitCode.OK


@pytest.mark.parametrize("fault", list(FAULTS))
@pytest.mark.parametrize("name", list(KINDS))
def test_s14_a_file_that_is_not_whole_ends_the_start(
    folder: Path, capsys: pytest.CaptureFixture[str], name: str, fault: str
) -> None:
    """S14: and says which one it is; never is it taken as if nothing had been asked for."""
    FAULTS[fault](folder / name)
    assert check() == ExitCode.USAGE
    setting, _ = KINDS[name]
    said = capsys.readouterr().err
    assert "1 problem in the settings" in said
    assert setting.partition(".")[0] in said


@pytest.mark.parametrize("name", [name for name, (_, is_secret) in KINDS.items() if is_secret])
def test_s14_a_secret_that_others_may_read_ends_the_start(
    folder: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """S14, S31: also when told to be insecure."""
    (folder / name).chmod(0o644)
    assert main(["serve", "--config", "triode.toml", "--check", "--insecure"]) == ExitCode.USAGE
    setting, _ = KINDS[name]
    said = capsys.readouterr().err
    assert setting in said
    assert "others of this machine may read it" in said


@pytest.mark.parametrize("fault", ["missing", "unreadable", "zeroed"])
def test_s14_settings_that_cannot_be_read_are_not_no_settings(folder: Path, fault: str) -> None:
    """S14: without them everybody would be let in."""
    FAULTS[fault](folder / "triode.toml")
    assert check() == ExitCode.USAGE


@pytest.mark.parametrize("keep", [0.15, 0.3, 0.5, 0.7, 0.9])
def test_s14_settings_that_were_cut_are_told_or_still_ask_for_credentials(
    folder: Path, capsys: pytest.CaptureFixture[str], keep: float
) -> None:
    """S14: what is left in the middle of a word is no settings."""
    whole = (folder / "triode.toml").read_text()
    cut = whole[: int(len(whole) * keep)]
    (folder / "triode.toml").write_text(cut if not cut.endswith("\n") else cut[:-1] + " =")
    assert check() == ExitCode.USAGE
    assert "triode.toml" in capsys.readouterr().err
