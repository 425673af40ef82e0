"""The command's face: help, version, exit codes, and sentences instead of tracebacks."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest
from triode_broker.cli.arguments import make_parser
from triode_broker.cli.exit_codes import MEANINGS, ExitCode
from triode_broker.cli.main import main
from triode_broker.cli.serve import command_name, next_steps
from triode_broker.config import Admin, Auth, Config, Tls, TokenKey

TRIODE = [sys.executable, "-c", "import sys; from triode_broker.cli.main import main; sys.exit(main())"]


@pytest.fixture(autouse=True)
def _no_settings_of_this_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TRIODE_CONFIG", "TRIODE_URL", "TRIODE_TOKEN", "TRIODE_LISTEN"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("command", ["serve", "pub", "sub", "presence", "subs", "dead", "token"])
def test_help_has_examples_and_exit_codes(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert f"  triode {command} " in text.partition("examples:")[2]
    assert all(f"{code:d} {meaning}" in text for code, meaning in MEANINGS.items())


def test_help_without_command_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    assert all(command in text for command in ("serve", "pub", "sub", "presence", "subs", "dead"))


def test_version_names_package_protocol_and_python(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("triode ")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["serv"],
        ["serve", "--liste", "x"],
        ["pub", "topic"],
        ["pub", "topic", "data", "--timeout", "0"],
        ["pub", "topic", "data", "--timeout", "nan"],
        ["pub", "topic", "data", "--token", "secret"],
        ["sub"],
        ["sub", "a", "--count", "0"],
        ["sub", "a", "--count", "x"],
        ["subs"],
        ["subs", "show"],
        ["subs", "rewind", "worker"],
        ["dead", "retry"],
        ["dead", "list", "worker", "--limit", "0"],
        ["dead", "retry", "worker", "--pos", "-1"],
    ],
)
def test_wrong_arguments_end_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == ExitCode.USAGE
    assert "usage: triode" in capsys.readouterr().err


def test_no_flag_of_serve_has_a_default_that_would_hide_the_file() -> None:
    given = vars(make_parser().parse_args(["serve"]))
    assert {name for name, value in given.items() if value not in (None, False)} == {"command"}


def test_check_prints_the_effective_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "triode.toml"
    file.write_text("[limits]\nping_ms = 9000")
    assert main(["serve", "--config", str(file), "--node", "n7", "--check"]) == ExitCode.OK
    text = capsys.readouterr().out
    assert 'node = "n7"  # --node' in text
    assert f"ping_ms = 9000  # 9 s · {file}" in text


def test_check_takes_the_file_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "triode.toml").write_text('node = "n8"')
    monkeypatch.setenv("TRIODE_CONFIG", str(tmp_path / "triode.toml"))
    assert main(["serve", "--check"]) == ExitCode.OK
    assert 'node = "n8"' in capsys.readouterr().out


def test_check_ends_with_2_and_all_problems(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "triode.toml").write_text('listn = "x"\nnode = "N"')
    assert main(["serve", "--config", str(tmp_path / "triode.toml"), "--check"]) == ExitCode.USAGE
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("triode serve: 2 problems in the settings\n")
    assert "did you mean listen?" in captured.err


def test_serve_without_its_extra_says_what_to_install() -> None:
    code = "import sys; sys.modules['structlog'] = None; from triode_broker.cli.main import main; "
    serve = subprocess.run(
        [sys.executable, "-c", f"{code} sys.exit(main(['serve', '--listen', '127.0.0.1:0']))"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert serve.returncode == ExitCode.FAILURE
    assert "structlog is not installed" in serve.stderr
    assert "install the extra `server`: pip install '.[server]' in a checkout" in serve.stderr


@pytest.mark.parametrize(
    "arguments",
    [["create", "--key-file", "x", "--user", "ada"], ["inspect", "--token-file", "x"], ["generate-secret"]],
)
def test_tokens_without_the_extra_say_what_to_install(arguments: list[str]) -> None:
    code = "import sys; sys.modules['jwt'] = None; from triode_broker.cli.main import main; "
    code += f"sys.exit(main({['token', *arguments]}))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == ExitCode.FAILURE
    assert run.stderr.startswith("triode token: jwt is not installed; install the extra `server`")


@pytest.mark.parametrize("command", [["serve", "--check"], ["pub", "--help"], ["token", "key", "--help"]])
def test_other_commands_work_without_the_extra(command: list[str]) -> None:
    extra = ["structlog", "websockets", "jwt", "cryptography", "httpx", "h11", "wsproto"]
    code = f"import sys; sys.modules |= dict.fromkeys({extra}); "
    code += f"from triode_broker.cli.main import main; sys.exit(main({command}))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def test_a_taken_port_is_told_in_a_sentence_with_what_to_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        serve = subprocess.run(
            [*TRIODE, "serve", "--listen", listen], capture_output=True, text=True, check=False, timeout=30
        )
    assert serve.returncode == ExitCode.FAILURE
    assert f"{listen} is taken by another program" in serve.stderr
    assert "--listen" in serve.stderr
    assert "TRIODE_LISTEN=127.0.0.1:" in serve.stderr
    assert " make run)" in serve.stderr
    assert "Traceback" not in serve.stderr


def test_next_steps_name_the_address_only_where_it_is_not_the_default() -> None:
    steps = next_steps(Config(demo=True), f"http://{Config().listen}", "triode")
    assert "http://127.0.0.1:7400/" in steps
    assert "triode sub 'demo/#'\n" in steps
    other = next_steps(Config(), "http://127.0.0.1:8000", ".venv/bin/triode")
    assert ".venv/bin/triode sub 'rooms/#' --url ws://127.0.0.1:8000/ws\n" in other
    assert "tail -f FILE | .venv/bin/triode pub logs/app - --url ws://127.0.0.1:8000/ws\n" in other


def test_next_steps_name_the_console_where_there_is_one() -> None:
    admin = Admin("127.0.0.1:7402", "secret")
    url = f"http://{Config().listen}"
    assert "http://127.0.0.1:7402/console" in next_steps(Config(admin=admin), url, "triode")
    assert "console" not in next_steps(Config(), url, "triode")
    secured = Admin("127.0.0.1:7402", "secret", tls=Tls(certificate="c.pem"))
    assert "https://127.0.0.1:7402/console" in next_steps(Config(admin=secured), url, "triode")


def test_next_steps_name_what_has_to_be_shown() -> None:
    """A credential where one is asked for, and who signed the certificate where there is one."""
    tokens = (TokenKey(key_file="key"),)
    steps = next_steps(Config(tokens=tokens), f"http://{Config().listen}", "triode")
    assert "triode sub 'rooms/#' --token-file TOKEN\n" in steps
    assert "triode token create --help" in steps
    assert "--ca" not in steps
    guest = next_steps(Config(tokens=tokens, auth=Auth(anonymous=True)), f"http://{Config().listen}", "triode")
    assert "--token-file" not in guest
    secured = next_steps(Config(tls=Tls(certificate="c.pem")), f"https://{Config().listen}", "triode")
    assert f"triode sub 'rooms/#' --url wss://{Config().listen}/ws\n" in secured
    assert "add --ca" in secured
    assert "--token-file" not in secured


def test_the_command_is_named_as_the_user_can_type_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "bin" / "triode"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/nowhere")
    assert command_name(str(program)) == "bin/triode"
    monkeypatch.setenv("PATH", str(program.parent))
    assert command_name(str(program)) == "triode"
