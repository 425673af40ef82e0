"""Finds a CPython 2.7 and makes the environment in which Autobahn's `wstest` runs.

It must not know which server is tested or how results are judged.

Surprising: Python 2.7 in a project of today. The suite's newest release installs on Python 3 and
then fails on its first import, so 2.7 is the only interpreter that runs it; and virtualenv before
20.22 is the last that makes an environment for 2.7.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

VIRTUALENV = "virtualenv<20.22"
SUITE = "autobahntestsuite==25.10.1"

# Asked of each candidate, because a name proves nothing: a version manager's `python2.7` on PATH
# may be a shim that only says which versions it could start. The answer names the real program.
_IDENTIFY = (
    "import platform, sys;"
    "print(platform.python_implementation() + ' %d.%d ' % sys.version_info[:2] + sys.executable)"
)
_PROBE_SECONDS = 20
_INSTALL_SECONDS = 900

INSTALL_ADVICE = """\
Autobahn's test suite runs on CPython 2.7 only. Install one, with its C headers:
  pyenv install 2.7.18                    (found by itself under ~/.pyenv/versions)
  apt-get install python2.7 python2.7-dev (where the distribution still has them)
or name it: PYTHON27=/path/to/python2.7 make autobahn"""


class CannotRun(Exception):
    """The suite could not be run at all, which says nothing about the server."""


def clean_environ(environ: Mapping[str, str]) -> dict[str, str]:
    """Return `environ` without the PYTHON* variables, which are meant for Python 3."""
    return {name: value for name, value in environ.items() if not name.startswith("PYTHON")}


def find_python27(environ: Mapping[str, str]) -> Path:
    """Return a CPython 2.7: `PYTHON27` if set, else PATH's, else the newest of pyenv's.

    Raises CannotRun with what to install. A wrong `PYTHON27` is an error and never passed over.
    """
    named = environ.get("PYTHON27")
    if named:
        found = _identify(named, environ)
        if found is None:
            raise CannotRun(f"PYTHON27={named} is not a CPython 2.7.\n{INSTALL_ADVICE}")
        return found
    for candidate in _candidates(environ):
        found = _identify(candidate, environ)
        if found is not None:
            return found
    raise CannotRun(f"No CPython 2.7 found.\n{INSTALL_ADVICE}")


def make_environment(cache: Path, python27: Path) -> Path:
    """Make or reuse the environment under `cache`; return its interpreter.

    The stamp is written last, so an interrupted or outdated environment is made anew.
    Takes about a minute, needs a package index and a C compiler; raises CannotRun if a step fails.
    """
    modern, legacy, stamp = cache / "vv", cache / "v27", cache / "installed.txt"
    wanted = f"{VIRTUALENV}\n{SUITE}\n{python27}\n"
    interpreter = legacy / "bin" / "python"
    if interpreter.exists() and stamp.exists() and stamp.read_text() == wanted:
        return interpreter
    stamp.unlink(missing_ok=True)
    shutil.rmtree(modern, ignore_errors=True)
    shutil.rmtree(legacy, ignore_errors=True)
    cache.mkdir(parents=True, exist_ok=True)
    log = cache / "install.log"
    log.unlink(missing_ok=True)
    # `-m` throughout: an installed script's first line fails where the path is long or has a space.
    modern_python = str(modern / "bin" / "python")
    _install(log, sys.executable, "-m", "venv", str(modern))
    _install(log, modern_python, "-m", "pip", "install", VIRTUALENV)
    _install(log, modern_python, "-m", "virtualenv", "-p", str(python27), str(legacy))
    _install(log, str(interpreter), "-m", "pip", "install", SUITE)
    stamp.write_text(wanted)
    return interpreter


def log_tail(log: Path, lines: int = 15) -> str:
    """Return the last lines of a log for an error message, whatever bytes it holds."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


def _candidates(environ: Mapping[str, str]) -> Iterator[str]:
    on_path = shutil.which("python2.7", path=environ.get("PATH"))
    if on_path:
        yield on_path
    pyenv = Path(environ.get("PYENV_ROOT") or Path(environ.get("HOME", "/")) / ".pyenv")
    installed = (pyenv / "versions").glob("2.7*/bin/python2.7")
    yield from sorted(map(str, installed), key=lambda path: (len(path), path), reverse=True)


def _identify(candidate: str, environ: Mapping[str, str]) -> Path | None:
    try:
        answer = subprocess.run(
            [candidate, "-c", _IDENTIFY],
            env=clean_environ(environ),
            capture_output=True,
            text=True,
            timeout=_PROBE_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    implementation, _, rest = answer.stdout.strip().partition(" ")
    version, _, executable = rest.partition(" ")
    return Path(executable) if (implementation, version) == ("CPython", "2.7") else None


def _install(log: Path, *command: str) -> None:
    with log.open("a") as output:
        try:
            subprocess.run(
                command,
                env=clean_environ(os.environ),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=_INSTALL_SECONDS,
                check=True,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise CannotRun(f"{error}\n{log_tail(log)}\nAll of it: {log}") from error
