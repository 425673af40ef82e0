"""docs/authentication.md is true: what it says to type is typed, its programs run, its settings are accepted."""

import ast
import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from triode_broker.auth.asking import Reply
from triode_broker.cli.arguments import make_parser
from triode_broker.cli.exit_codes import ExitCode
from triode_broker.cli.settings import load
from triode_broker.config import Auth, Config, TokenKey

from tests.auth.endpoint import hear_identity, hear_refusal
from tests.auth.making import Clock, make_door
from tests.browser.processes import TRIODE
from tests.cli.programs import PATIENCE_SECONDS, Triode
from tests.house.tree import ROOT

PAGE = ROOT / "docs" / "authentication.md"
TEXT = PAGE.read_text(encoding="utf-8")
SECRET = "a secret of this test, which is long enough"


def blocks(language: str) -> list[str]:
    """The code blocks of one language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)


SERVE, READ, WRITE, KEYS = blocks("sh")
ISSUES, ANSWERS = blocks("python")


def shell(lines: str, folder: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """What a terminal makes of them, each on its own."""
    path = f"{Path(TRIODE).parent}{os.pathsep}{os.environ['PATH']}"
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TRIODE_")}
    return subprocess.run(
        ["bash", "-uc", lines],
        cwd=folder,
        env={**clean, "PATH": path, **environ},
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


async def test_the_first_five_minutes_are_as_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    *before, serve = SERVE.strip().splitlines()
    assert shell("\n".join(before), tmp_path).returncode == 0
    assert oct((tmp_path / "jwt.secret").stat().st_mode)[-3:] == "600"
    environ = {"TRIODE_LISTEN": "127.0.0.1:0", "TRIODE_LOG_FORMAT": "json"}
    async with Triode(*serve.split()[1:], environ=environ) as broker:
        (base,) = json.loads(await broker.errors().until('"started"'))["urls"]
        url = base.replace("http", "ws", 1) + "/ws"

        async def type_in(lines: str) -> subprocess.CompletedProcess[str]:
            return await trio.to_thread.run_sync(lambda: shell(lines, tmp_path, TRIODE_URL=url))

        heard: list[subprocess.CompletedProcess[str]] = []

        async def listen(command: str) -> None:
            heard.append(await type_in(command))

        *make, sub = READ.strip().splitlines()
        allowed, forbidden, inspect = WRITE.strip().splitlines()
        assert (await type_in("\n".join(make))).returncode == ExitCode.OK
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen, sub)
            while not heard:  # until it was subscribed when one came
                assert (await type_in(allowed)).returncode == ExitCode.OK
        assert (heard[0].returncode, heard[0].stdout) == (ExitCode.OK, "rooms/ada/chat hello\n")
        refused = await type_in(forbidden)
        assert refused.returncode == ExitCode.REFUSED
        assert "forbidden" in refused.stderr
        assert re.search(r"may publish +rooms/ada/#\n", (await type_in(inspect)).stdout)


def test_keys_for_services_are_made_as_told(tmp_path: Path) -> None:
    done = shell(KEYS, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "billing" in done.stdout
    assert (tmp_path / "billing.key").read_text().startswith("tk_")


async def test_the_service_that_issues_tokens_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JWT_SECRET", SECRET)
    program: dict[str, Any] = {}
    exec(compile(ISSUES, str(PAGE), "exec"), program)  # our own page
    async with httpx.AsyncClient(transport=httpx.ASGITransport(program["app"]), base_url="http://x") as http:
        token = (await http.get("/token")).text
    door = make_door(Config(tokens=(TokenKey(algorithm="HS256", key_env="S"),)), environ={"S": SECRET})
    door.clock.ms = int(program["time"].time() * 1000)
    identity = door.let_in(token)
    assert (identity.user, set(identity.roles)) == ("ada", {"member"})


async def test_the_endpoint_that_is_asked_answers(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLOUT_SECRET", SECRET)
    program: dict[str, Any] = {}
    exec(compile(ANSWERS, str(PAGE), "exec"), program)  # our own page
    program["Question"].model_rebuild(_types_namespace=program)

    async def ask(url: str, *, body: bytes | None, headers: Mapping[str, str], **_: Any) -> Reply:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(program["app"])) as http:
            answer = await http.post(url, content=body, headers=dict(headers))
        return Reply(answer.status_code, answer.content)

    def door_with(secret: str) -> Any:
        auth = Auth(callout_url="https://app.example.com/triode/who", callout_secret_env="S")
        return make_door(Config(auth=auth), environ={"S": secret}, ask=ask)

    door, stranger = door_with(SECRET), door_with(SECRET[::-1])
    await nursery.start(door.authority.run)
    await nursery.start(stranger.authority.run)
    identity = await hear_identity(door, "opaque-session-id")
    assert (identity.user, set(identity.roles)) == ("ada", {"member"})
    assert identity.expires_ms == Clock().ms + 900_000
    assert (await hear_refusal(door, "another")).name == "unauthorized"
    assert (await hear_refusal(stranger, "opaque-session-id")).name == "unavailable"


@pytest.mark.parametrize("text", blocks("toml"), ids=lambda text: text.splitlines()[1][:30])
def test_settings_on_the_page_are_accepted(tmp_path: Path, text: str) -> None:
    file = tmp_path / "triode.toml"
    # A piece may stand on what another one says.
    has_kind = "[[tokens]]" in text or "[auth]" in text
    file.write_text(text if has_kind else f'{text}\n[[tokens]]\nkey_env = "K"\n[auth]\nanonymous = true\n')
    assert load(file=file).config


def test_settings_of_the_examples_are_accepted_with_their_comments_off(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "examples" / "triode.toml").read_text(encoding="utf-8")
    head, _, rest = text.partition("\n# [[tokens]]")
    file = tmp_path / "triode.toml"
    file.write_text(head + re.sub(r"^# ?", "", f"\n# [[tokens]]{rest}", flags=re.MULTILINE))
    config = load(file=file).config
    assert (len(config.tokens), len(config.permissions), bool(config.auth.api_keys_file)) == (1, 2, True)


def test_commands_on_the_page_are_commands() -> None:
    found = re.findall(r"`triode ((?:token|revoke|serve)[^`]*)`", TEXT)
    for command in found:
        words = command.replace("ID", "0123456789ab").split(" (")[0].split()
        if len(words) > 2 or words == ["serve"]:
            make_parser().parse_args(words)
    assert len(found) > 3


def test_programs_on_the_page_are_programs(tmp_path: Path) -> None:
    for text in blocks("py"):
        compile(text, str(PAGE), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    if (node := shutil.which("node")) is not None:
        for text in blocks("js"):
            (tmp_path / "program.js").write_text(text)
            subprocess.run([node, "--check", str(tmp_path / "program.js")], check=True)


def test_links_on_the_page_lead_somewhere() -> None:
    heads = re.findall(r"^#+ (.*)$", TEXT, re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}
    for file, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)", TEXT):
        assert not file or (PAGE.parent / file).exists(), file
        assert file or anchor in anchors, anchor


def test_every_setting_of_who_may_connect_is_on_the_page() -> None:
    names = [*(f"auth.{name}" for name in Auth.__struct_fields__), *TokenKey.__struct_fields__]
    plain = TEXT.replace("auth.", "")
    assert [name for name in names if name.removeprefix("auth.") not in plain] == []
