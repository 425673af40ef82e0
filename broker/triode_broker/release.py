"""Which Triode this is: its version, and the commit it was made from.

The version stands in pyproject.toml alone and is asked of the installed distribution; the commit stands in a file
beside this one that building a wheel leaves here (broker/commit_hook.py). The surprising decision: in a checkout
there is no such file, so the commit is read from git's own, without running git: whoever starts a node there pays
two reads for it and needs no git.
"""

from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Final

COMMIT_FILE: Final = "commit.txt"
SHOWN_CHARACTERS: Final = 12  # of a commit
_HERE: Final = Path(__file__).parent


def version() -> str:
    """Of the installed distribution."""
    try:
        return version_of("triode")
    except PackageNotFoundError:
        return "0+unknown"


def commit(here: Path = _HERE) -> str:
    """The beginning of the commit's name; "" where nobody knows, as in a copy without git's files."""
    return (_read(here / COMMIT_FILE) or _checked_out(here.parent.parent / ".git"))[:SHOWN_CHARACTERS]


def install(extra: str) -> str:
    """How an extra is had, in a checkout and without one."""
    return f"pip install '.[{extra}]' in a checkout, 'triode[{extra}]' from a package index"


def described() -> str:
    """Both, for people: `0.2.0 (commit 1a2b3c4d5e6f)`."""
    made_from = commit()
    return f"{version()} (commit {made_from})" if made_from else version()


def _checked_out(git: Path) -> str:
    """What HEAD of this repository is."""
    if text := _read(git).removeprefix("gitdir: "):  # a work tree beside others: its own files are elsewhere
        git = (git.parent / text).resolve()
    head = _read(git / "HEAD")
    name = head.removeprefix("ref: ")
    if name == head:
        return head
    common = git / (_read(git / "commondir") or ".")
    return _read(common / name) or _packed(common / "packed-refs", name)


def _packed(file: Path, name: str) -> str:
    for line in _read(file).splitlines():
        sum, _, ref = line.partition(" ")
        if ref == name:
            return sum
    return ""


def _read(file: Path) -> str:
    try:
        return file.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""
