"""What an overlay comes to, as far as ours go: a strict reading of the few words of kustomize that they use.

Knows resources, images, namespace, labels, a ConfigMap's name with its hash left out, and patches by JSON pointer.
Any other word is an error, and so is a patch without a target: where kubectl is there its own reading is compared.
"""

import copy
import json
from pathlib import Path
from typing import Any

import yaml

Document = dict[str, Any]
_WORDS = {
    *("apiVersion", "kind", "namespace", "resources", "images", "patches", "labels", "configMapGenerator"),
}


class _Strict(yaml.SafeLoader):
    """A key that is there twice is an error, not the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """As ever, if no key repeats."""
        keys = [
            self.construct_object(key, deep=True) for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"
        ]
        repeated = {key for key in keys if keys.count(key) > 1}
        if repeated:
            raise ValueError(f"{node.start_mark}: twice: {sorted(repeated)}")
        return super().construct_mapping(node, deep=deep)


def load(file: Path) -> list[Document]:
    """All documents of a file, without anything that two of their places share."""
    return [json.loads(json.dumps(found)) for found in yaml.load_all(file.read_text(), _Strict) if found]


def build(folder: Path) -> list[Document]:
    """All that would be applied."""
    (own,) = load(folder / "kustomization.yaml")
    if unknown := set(own) - _WORDS:
        raise ValueError(f"{folder}: not read here: {sorted(unknown)}")
    found: list[Document] = []
    for name in own["resources"]:
        path = folder / name
        found += build(path) if path.is_dir() else load(path)
    found += [_config_map(folder, one) for one in own.get("configMapGenerator", ())]
    for one in own.get("patches", ()):
        operations = (
            yaml.safe_load(one["patch"]) if "patch" in one else yaml.safe_load((folder / one["path"]).read_text())
        )
        targets = [document for document in found if _is_target(document, one["target"])]
        if not targets:
            raise ValueError(f"{folder}: no target {one['target']}")
        for document in targets:
            for operation in operations:
                _apply(document, operation)
    for document in found:
        if "namespace" in own and document["kind"] != "Namespace":
            document["metadata"]["namespace"] = own["namespace"]
        for labels in own.get("labels", ()):
            document["metadata"].setdefault("labels", {}).update(labels["pairs"])
    for image in own.get("images", ()):
        _name_image(folder, found, image)
    return found


def _config_map(folder: Path, one: Document) -> Document:
    data = {name: (folder / name).read_text() for name in one["files"]}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": one["name"]}, "data": data}


def _is_target(document: Document, target: Document) -> bool:
    return (document["kind"], document["metadata"]["name"]) == (target["kind"], target["name"])


def _apply(document: Document, operation: Document) -> None:
    """One operation of RFC 6902: `replace` what is there, `add` what may not be."""
    *way, last = [part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]]
    place: Any = document
    for part in way:
        place = place[int(part) if isinstance(place, list) else part]
    if operation["op"] == "replace":
        place[last]
    elif operation["op"] != "add":
        raise ValueError(f"not read here: {operation['op']}")
    place[last] = copy.deepcopy(operation["value"])


def _name_image(folder: Path, found: list[Document], image: Document) -> None:
    named = 0
    for container in (one for document in found for one in containers(document)):
        if container["image"] == image["name"]:
            container["image"] = f"{image['newName']}:{image['newTag']}"
            named += 1
    if not named:
        raise ValueError(f"{folder}: no container with image {image['name']}")


def containers(document: Document) -> list[Document]:
    """Of its pods."""
    found: list[Document] = document.get("spec", {}).get("template", {}).get("spec", {}).get("containers", [])
    return found
