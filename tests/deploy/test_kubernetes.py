"""The manifests: valid by Kubernetes' own schemas, whole when put together, and as safe as they say."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from triode_broker.cli.settings import load as load_settings

from tests.deploy.kustomized import Document, build, containers, load
from tests.deploy.three_nodes import DEPLOY
from tests.deploy.tools import judge, program

KUBERNETES = DEPLOY / "kubernetes"
OVERLAYS = sorted(path.parent for path in (KUBERNETES / "overlays").glob("*/kustomization.yaml"))
#: The oldest that is still looked after somewhere, and the newest that the schemas are there for.
VERSIONS = ("1.29", "1.34")
DEFAULT_DRAIN_SECONDS = 10 + 5 + 2 + 30  # limits.drain_window_ms, and what comes behind (deploy/README.md)


def one(documents: list[Document], kind: str, name: str) -> Any:
    """The one of that kind and name."""
    (found,) = [one for one in documents if (one["kind"], one["metadata"]["name"]) == (kind, name)]
    return found


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.name)
def test_every_manifest_is_valid(overlay: Path) -> None:
    # With all of jsonschema's formats: a second and a half, which whoever only collects tests need not pay.
    import kubernetes_validate  # type: ignore[import-untyped]  # has no types

    for document in build(overlay):
        for version in VERSIONS:
            kubernetes_validate.validate(document, version, strict=True)


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.name)
@pytest.mark.skipif(not program("kubectl"), reason="kubectl is not installed")
def test_kustomize_reads_the_overlays_as_the_tests_do(overlay: Path) -> None:
    text = judge("kubectl", "kustomize", str(overlay), cwd=overlay)
    text = re.sub(r"(name: triode)-[a-z0-9]{10}$", r"\1", text, flags=re.MULTILINE)  # of the ConfigMap
    assert sorted(map(repr_of, yaml.safe_load_all(text))) == sorted(map(repr_of, build(overlay)))


def repr_of(document: Document) -> str:
    """The same for what means the same."""
    return yaml.safe_dump(document, sort_keys=True)


def test_every_file_belongs_to_something() -> None:
    named = set()
    for file in KUBERNETES.rglob("kustomization.yaml"):
        (own,) = load(file)
        paths = [*own["resources"], *(patch.get("path", "kustomization.yaml") for patch in own.get("patches", ()))]
        paths += [name for generator in own.get("configMapGenerator", ()) for name in generator["files"]]
        named |= {(file.parent / path).resolve() for path in paths} | {file.resolve()}
    there = {path.resolve() for path in KUBERNETES.rglob("*") if path.suffix in (".yaml", ".toml")}
    assert there - named == set()


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.name)
def test_pods_are_restricted(overlay: Path) -> None:
    """What Kubernetes calls `restricted`, a root that cannot be written, no token of its own."""
    for document in build(overlay):
        for container in containers(document):
            pod = document["spec"]["template"]["spec"]
            assert pod["securityContext"]["runAsNonRoot"] is True
            assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
            assert (pod["automountServiceAccountToken"], pod["enableServiceLinks"]) == (False, False)
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(container)
            assert container["image"] == "registry.example.org/triode:0.2.0"
            before = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
            assert pod["terminationGracePeriodSeconds"] > before + DEFAULT_DRAIN_SECONDS


def test_selectors_find_what_they_are_for() -> None:
    documents = build(KUBERNETES / "overlays" / "autoscaled")
    pods = {
        name: one(documents, kind, name)["spec"]["template"]["metadata"]["labels"]
        for kind, name in (("StatefulSet", "triode"), ("Deployment", "triode-edge"))
    }

    def found(selector: Document) -> set[str]:
        return {name for name, labels in pods.items() if labels.items() >= selector.items()}

    assert found(one(documents, "Service", "triode")["spec"]["selector"]) == {"triode-edge"}
    assert found(one(documents, "Service", "triode-peers")["spec"]["selector"]) == {"triode"}
    for budget in ("triode", "triode-edge"):
        selector = one(documents, "PodDisruptionBudget", budget)["spec"]["selector"]["matchLabels"]
        assert found(selector) == {budget}
    rules = one(documents, "NetworkPolicy", "triode")["spec"]
    assert found(rules["podSelector"]["matchLabels"]) == set(pods)
    assert {port["port"]: len(rule["from"]) for rule in rules["ingress"] for port in rule["ports"]} == {
        7400: 2, 7401: 1, 7402: 1,
    }  # fmt: skip


def test_settings_go_with_the_pods(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names of holders, seeds and files are those that the StatefulSet makes; and the broker accepts them."""
    documents = build(KUBERNETES / "overlays" / "production")
    config = tomllib.loads(one(documents, "ConfigMap", "triode")["data"]["triode.toml"])
    holders = one(documents, "StatefulSet", "triode")["spec"]
    names = [f"triode-{number}" for number in range(holders["replicas"])]
    assert config["durable"] == names
    assert config["seeds"] == [f"ws://{name}.{holders['serviceName']}:7401" for name in names]
    (container,) = holders["template"]["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert (config["listen"], config["cluster_listen"]) == (
        f"0.0.0.0:{ports['clients']}",
        f"0.0.0.0:{ports['peers']}",
    )
    environ = {
        row["name"]: row["value"].replace("$(POD_NAME)", "triode-1") for row in container["env"] if "value" in row
    }
    (tmp_path / "secrets").mkdir()
    for file in ("cluster_secret", "jwt_secret", "api_keys"):
        (tmp_path / "secrets" / file).touch(0o600)
        (tmp_path / "secrets" / file).write_text("s" * 64 + "\n")
    monkeypatch.chdir(tmp_path)
    settings = load_settings(environ=environ, file=KUBERNETES / "base" / "triode.toml")
    assert (settings.config.node, settings.config.data) == ("triode-1", "/var/lib/triode/data")
