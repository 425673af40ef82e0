"""Builds: copies of the broker that speak the peer protocol as an older or a newer one would, to be run as nodes.

Made mechanically from the tree's own source, so they are never out of date. The surprising decision: what makes
the older one is not other code but a narrower word list: everything it sends and hears passes through its own
frame types, which lack the fields of LATE.
"""

import ast
import shutil
from pathlib import Path
from typing import Final

from attrs import frozen

from tests.house.tree import PACKAGES

#: What `Newer` says in every field that the tree's own build does not know.
ADDED: Final = "of a newer build"
#: Fields of which an older build knew nothing: frame, line.
LATE: Final = (
    ("Entry", '    heir: str = ""'),
    ("Heard", '    url: str = ""'),
    ("Forward", '    log: str = ""'),
)
#: Where the records are that travel between nodes.
RECORDS: Final = ("cluster/frames.py", "cluster/hello.py", "core/record.py", "core/handed.py")

_NEWER_FRAMES: Final = """

class Greeting(Frame, tag=99):
    \"\"\"A kind that came with version 2.\"\"\"

    text: str


SINCE[Greeting] = 2
_decoder = msgspec.msgpack.Decoder(list[AnyFrame | Greeting])
"""
_NEWER_CLUSTER: Final = """

from triode_broker.cluster.frames import Greeting


def _greet(self, link, frame):
    self._log.info("greeting_heard", node=link.peer.node, text=frame.text)


def _open(self, link, opened=Cluster.opened):
    opened(self, link)
    if link.has(Greeting) or CARELESS:
        link.put(Greeting("to " + link.peer.node))


CARELESS = False
HANDLERS[Greeting] = _greet
Cluster.opened = _open
"""
_OLDER_FRAMES: Final = """

from triode_broker.cluster import older_frames


def encode(frames):
    return older_frames.encode(older_frames.decode(_encoder.encode(frames)))


def decode(data):
    return _decoder.decode(older_frames.encode(older_frames.decode(data)))
"""

_RECORDING_LINK: Final = """

def _note(self, frames, encoded=Link._encoded):
    said = [frame for frame in frames if type(frame) not in (Ping, Pong)]
    if said:
        asks = "asks" if self.is_dialler else "answers"
        self._settings.log.info("frames_sent", to=self.peer.node, link=asks, frames=list(map(repr, said)))
    return encoded(self, frames)


Link._encoded = _note
"""


@frozen
class Build:
    """A broker to be run, by what has to stand in the environment of its process."""

    environ: dict[str, str]


#: As it stands in the tree.
CURRENT: Final = Build({})


def newer(folder: Path, protocols: tuple[int, int] = (1, 2), *, is_careless: bool = False) -> Build:
    """One more field at the end of every record on the wire, and from version 2 on a kind of frame more.

    `is_careless`: it puts that on every link, whatever the link's version.
    """
    package = _copy(folder)
    for name in RECORDS:
        _append_fields(package / name)
    _replace(package / "cluster/frames.py", "PROTOCOLS: Final = (1, 1)", f"PROTOCOLS: Final = {protocols}")
    _append(package / "cluster/frames.py", _NEWER_FRAMES)
    said = _NEWER_CLUSTER.replace("CARELESS = False", f"CARELESS = {is_careless}")
    _append(package / "cluster/cluster.py", said)
    return _build(folder)


def older(folder: Path) -> Build:
    """Without the fields of LATE, and without a word about its configuration in the hello."""
    package = _copy(folder)
    frames = package / "cluster/frames.py"
    lacking = package / "cluster/older_frames.py"
    lacking.write_text(frames.read_text())
    for kind, line in LATE:
        _remove_field(lacking, kind, line)
    _append(frames, _OLDER_FRAMES)
    hello = package / "cluster/hello.py"
    _replace(hello, "configuration=configuration(config),", "")
    _replace(package / "cluster/drifting.py", "return configuration(config)", "return {}")
    return _build(folder)


def recording(folder: Path) -> Build:
    """The tree's own, which logs as `frames_sent` each message to another node, but for life signs."""
    _append(_copy(folder) / "cluster/link.py", _RECORDING_LINK)
    return _build(folder)


def _copy(folder: Path) -> Path:
    return Path(
        shutil.copytree(
            PACKAGES["triode_broker"], folder / "triode_broker", ignore=shutil.ignore_patterns("__pycache__")
        )
    )


def _build(folder: Path) -> Build:
    return Build({"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"})


def _append_fields(path: Path) -> None:
    lines = path.read_text().splitlines()
    tree = ast.parse("\n".join(lines))
    for record in reversed([node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]):
        if not _travels(record):
            continue
        fields = [node for node in record.body if isinstance(node, ast.AnnAssign)]
        last = (fields or record.body)[-1].end_lineno
        assert last is not None
        lines.insert(last, f"    added: str = {ADDED!r}")
    path.write_text("\n".join(lines) + "\n")


def _travels(record: ast.ClassDef) -> bool:
    parents = {ast.unparse(parent) for parent in record.bases}
    is_array = any(word.arg == "array_like" for word in record.keywords)
    return "Frame" in parents or ("Struct" in parents and is_array and record.name != "Frame")


def _remove_field(path: Path, kind: str, line: str) -> None:
    before, found, body = path.read_text().partition(f"\nclass {kind}(")
    assert found
    assert line in body.partition("\n\n\n")[0], f"{kind} has no field {line!r} any more"
    lines = body.splitlines()
    index = next(index for index, each in enumerate(lines) if each.startswith(line))
    path.write_text(before + found + "\n".join([*lines[:index], *lines[index + 1 :]]) + "\n")


def _replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1, f"{path.name} does not say {old!r} any more"
    path.write_text(text.replace(old, new))


def _append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)
