"""Which Triode this is: one version in one place, and the commit, wherever it was installed from."""

import json
import subprocess
import tomllib
from pathlib import Path

import pytest
from triode_broker import release

from tests.house.tree import ROOT

COMMIT = "0123456789abcdef0123456789abcdef01234567"
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A package in a checkout; its folder."""
    (tmp_path / ".git" / "refs" / "heads").mkdir(parents=True)
    here = tmp_path / "broker" / "triode_broker"
    here.mkdir(parents=True)
    return here


def say(checkout: Path, name: str, text: str) -> None:
    """Write a file of its git."""
    path = checkout.parent.parent / ".git" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_commit_of_a_wheel_is_what_its_build_left(checkout: Path) -> None:
    (checkout / release.COMMIT_FILE).write_text(COMMIT + "\n")
    assert release.commit(checkout) == COMMIT[: release.SHOWN_CHARACTERS]


@pytest.mark.parametrize(
    "files",
    [
        {"HEAD": COMMIT},
        {"HEAD": "ref: refs/heads/main\n", "refs/heads/main": COMMIT},
        {"HEAD": "ref: refs/heads/main\n", "packed-refs": f"# pack-refs\n{COMMIT} refs/heads/main\n"},
    ],
    ids=["detached", "branch", "packed"],
)
def test_commit_of_a_checkout_is_read_without_git(checkout: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        say(checkout, name, text)
    assert release.commit(checkout) == COMMIT[: release.SHOWN_CHARACTERS]


def test_commit_of_a_second_work_tree_is_found(checkout: Path, tmp_path: Path) -> None:
    say(checkout, "refs/heads/other", COMMIT)
    say(checkout, "worktrees/second/HEAD", "ref: refs/heads/other\n")
    say(checkout, "worktrees/second/commondir", "../..\n")
    here = tmp_path / "second" / "broker" / "triode_broker"
    here.mkdir(parents=True)
    (tmp_path / "second" / ".git").write_text(f"gitdir: {tmp_path}/.git/worktrees/second\n")
    assert release.commit(here) == COMMIT[: release.SHOWN_CHARACTERS]


def test_a_copy_without_git_has_no_commit(checkout: Path) -> None:
    assert release.commit(checkout) == ""


def test_this_checkout_says_what_git_says() -> None:
    git = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    if git.returncode != 0:
        pytest.skip("this is no checkout")
    assert release.commit() == git.stdout[: release.SHOWN_CHARACTERS]


def test_version_stands_in_one_place_and_all_others_say_the_same() -> None:
    """`make version` takes it everywhere."""
    assert release.version() == VERSION, "the installed distribution is older: make test installs it again"
    assert json.loads((ROOT / "clients/js/package.json").read_text())["version"] == VERSION
    lock = json.loads((ROOT / "clients/js/package-lock.json").read_text())
    assert [lock["version"], lock["packages"][""]["version"]] == [VERSION, VERSION]


def test_changelog_says_what_this_version_brings() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert "## Unreleased" in changelog or f"## {VERSION} – " in changelog
