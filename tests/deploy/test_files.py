"""What deploy/ ships, judged by the programs that it is for: each file by its own linter or its own reader."""

import json
import re
import shutil
import sys
from pathlib import Path
from subprocess import run
from typing import Any

import pytest
import yaml

from tests.deploy import proxies
from tests.deploy.three_nodes import DEPLOY, QUICK
from tests.deploy.tools import judge, needs

DOCKER = DEPLOY / "docker"
SYSTEMD = DEPLOY / "systemd"
NODES = {"PROXY_N1": "127.0.0.1:20001", "PROXY_N2": "127.0.0.1:20002", "PROXY_N3": "127.0.0.1:20003"}
COMPOSED = ["compose.yaml", "compose.nginx.yaml", "compose.caddy.yaml"]
#: Of systemd's figure for what a unit could do to the machine: 0 to 10, here in tenths.
MOST_EXPOSED = "25"


@needs("hadolint")
def test_the_dockerfile_has_no_finding() -> None:
    judge("hadolint", "--failure-threshold", "info", "Dockerfile", cwd=DOCKER)


def test_the_dockerfile_copies_what_there_is_and_nothing_else_is_sent() -> None:
    text = (DOCKER / "Dockerfile").read_text()
    text = text.replace("${CONSTRAINTS}", ".ci/requirements.lock")
    lines = [line.split()[1:] for line in text.splitlines() if line.startswith("COPY") and "--from" not in line]
    copied = {source for *sources, _ in lines for source in sources}
    root = DEPLOY.parent
    assert {source for source in copied if not (root / source).exists()} == set()
    ignore = (DOCKER / "Dockerfile.dockerignore").read_text().splitlines()
    assert {line[1:] for line in ignore if line.startswith("!")} == copied


def test_the_image_runs_as_a_number_that_is_not_root_and_without_a_compiler() -> None:
    text = (DOCKER / "Dockerfile").read_text()
    last = text[text.rindex("FROM ") :]
    assert re.findall(r"^USER (.*)$", last, re.MULTILINE) == ["10001:10001"]
    assert "STOPSIGNAL SIGTERM" in last
    assert "HEALTHCHECK" in last
    assert not re.search(r"apt-get|apk |gcc|build-essential|pip install", last)


def test_the_health_command_says_no_where_nobody_answers() -> None:
    """The good case is that of every node in `test_rolling_restart`."""
    environ = {"TRIODE_LISTEN": "0.0.0.0:1"}
    command = [sys.executable, "-I", str(DOCKER / "healthy.py"), "/readyz"]
    done = run(command, env=environ, capture_output=True, check=False)
    assert done.returncode == 1
    assert b"/readyz" in done.stdout


@needs("check-jsonschema")
def test_compose_files_follow_the_schema() -> None:
    judge("check-jsonschema", "--builtin-schema", "vendor.compose-spec", "nodes.yaml", *COMPOSED, cwd=DOCKER)


@pytest.mark.parametrize("file", COMPOSED)
def test_compose_files_name_only_what_they_have(file: str) -> None:
    whole: dict[str, Any] = {"services": {}, "networks": {}, "volumes": {}, "configs": {}, "secrets": {}}
    own = yaml.safe_load((DOCKER / file).read_text())
    for document in (*(yaml.safe_load((DOCKER / name).read_text()) for name in own["include"]), own):
        for kind, found in whole.items():
            assert not set(found) & set(document.get(kind, {}))
            found |= document.get(kind, {})
    for name, service in whole["services"].items():
        assert set(service["networks"]) <= set(whole["networks"])
        assert set(service.get("depends_on", ())) <= set(whole["services"])
        volumes = {volume.partition(":")[0] for volume in service.get("volumes", ())}
        assert volumes <= set(whole["volumes"])
        for kind in ("configs", "secrets"):
            assert {one["source"] for one in service.get(kind, ())} <= set(whole[kind])
        assert (service["read_only"], service["cap_drop"], service["restart"]) == (True, ["ALL"], "unless-stopped")
        assert ("ports" in service) == (name == "proxy"), "a node is reached through the proxy alone"
    assert all((DOCKER / one["file"]).is_file() for one in whole["configs"].values())
    assert all(one["file"].startswith("./secrets/") for one in whole["secrets"].values())


def test_nodes_of_the_compose_file_are_those_of_the_settings() -> None:
    nodes = yaml.safe_load((DOCKER / "nodes.yaml").read_text())
    text = (DOCKER / "triode.toml").read_text()
    for name, service in nodes["services"].items():
        environ = service["environment"]
        assert environ["TRIODE_NODE"] == name
        assert f'"{environ["TRIODE_CLUSTER_ADVERTISE"]}"' in text
    (network,) = nodes["networks"]["front"]["ipam"]["config"]
    assert f'trusted_proxies = ["{network["subnet"]}"]' in text
    grace = int(nodes["services"]["n1"]["stop_grace_period"].removesuffix("s"))
    assert grace > 3 + 10 + 5 + 2 + 30, "drain_delay_ms, drain_window_ms, and what comes behind"
    assert "TRIODE_LIMITS_DRAIN_DELAY_MS" in QUICK


@needs("haproxy")
@pytest.mark.parametrize("file", ["haproxy.cfg", "passthrough.cfg"])
def test_haproxy_takes_its_files_without_a_warning(file: str, tmp_path: Path) -> None:
    said = judge("haproxy", "-c", "-f", str(DEPLOY / "haproxy" / file), cwd=tmp_path, environ=NODES)
    assert "WARNING" not in said, said
    assert "ALERT" not in said, said


@pytest.mark.parametrize("folder", ["haproxy", "nginx", "caddy"])
def test_variables_of_a_proxy_are_not_the_brokers(folder: str) -> None:
    """A node refuses to start with a TRIODE_ variable that it does not know, and both may be on one machine."""
    for file in filter(Path.is_file, (DEPLOY / folder).rglob("*")):
        assert re.findall(r"TRIODE_[A-Z]\w*", file.read_text()) == []


@needs("nginx")
def test_nginx_takes_its_file(tmp_path: Path) -> None:
    command = proxies.nginx(tmp_path, "127.0.0.1:20080", list(NODES.values()))
    said = judge(*command[:-2], "-t", cwd=tmp_path)
    assert "[warn]" not in said, said


@needs("caddy")
def test_caddy_takes_its_file_and_would_write_it_so(tmp_path: Path) -> None:
    shutil.copy(proxies.CADDY, tmp_path)
    environ = {**NODES, "XDG_DATA_HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
    said = judge(
        "caddy", "validate", "--config", "Caddyfile", "--adapter", "caddyfile", cwd=tmp_path, environ=environ
    )
    lines = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    assert [line for line in lines if line["level"] != "info"] == []
    assert judge("caddy", "fmt", "Caddyfile", cwd=tmp_path) == proxies.CADDY.read_text()


@needs("systemd-analyze")
def test_systemd_takes_the_units_and_finds_them_hardened(tmp_path: Path) -> None:
    there = shutil.which("true") or ""  # stands where the broker would
    for unit in SYSTEMD.glob("triode*.*"):
        if unit.is_file():
            (tmp_path / unit.name).write_text(unit.read_text().replace("/opt/triode/bin/triode", there))
    units = ["triode.service", "triode@n1.service", "triode.target"]
    shutil.copy(tmp_path / "triode@.service", tmp_path / "triode@n1.service")
    said = judge("systemd-analyze", "verify", "--man=no", *(f"./{name}" for name in units), cwd=tmp_path)
    assert "triode" not in said, said
    for name in units[:2]:
        command = ("systemd-analyze", "security", "--offline=true", "--no-pager", f"--threshold={MOST_EXPOSED}")
        judge(*command, f"./{name}", cwd=tmp_path)


def test_both_units_are_hardened_alike() -> None:
    """What stands in the one and not in the other is their names."""

    def said(name: str) -> list[str]:
        text = (SYSTEMD / name).read_text()
        return [line for line in text.splitlines() if line and line[0] != "#" and "=" in line]

    one, other = said("triode.service"), said("triode@.service")
    different = {line.partition("=")[0] for line in set(one) ^ set(other)}
    assert different == {
        "Description",
        "EnvironmentFile",
        "ExecStart",
        "PartOf",
        "StateDirectory",
        "WantedBy",
    }


@pytest.mark.parametrize("file", sorted((DEPLOY / "sysctl").glob("*.conf")), ids=lambda file: file.name)
def test_settings_of_the_kernel_have_the_form_of_such(file: Path) -> None:
    lines = [line for line in file.read_text().splitlines() if line and not line.startswith("#")]
    names = []
    for line in lines:
        found = re.fullmatch(r"((?:net|fs)\.[a-z0-9_.-]+) = ([0-9 ,-]+)", line)
        assert found, line
        names.append(found[1])
        kernel = Path("/proc/sys") / found[1].replace(".", "/")
        if not found[1].startswith("net.netfilter") and (kernel.parent / "tcp_mem").exists():
            assert kernel.exists(), f"this kernel has no {found[1]}"
    assert len(names) == len(set(names))
