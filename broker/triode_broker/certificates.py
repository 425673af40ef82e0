"""A certificate in use: its contexts, renewed when its files change, and how long it is still good.

Knows files, time and a log; who handshakes with it asks for the context each time. The surprising decision:
changed files are loaded only once they have stayed the same for two looks. What renews certificates writes two
files, one after the other; looked at in between they do not belong together. What cannot be loaded changes nothing
(S14).
"""

import os
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from triode_broker.config import Tls
from triode_broker.tls import BadCertificate, dialling, files, listening

LOOK_SECONDS: Final = 5.0  # between two looks at the files
WARN_SECONDS: Final = 7 * 86_400.0  # before the end, health is degraded; or a third of its life, if that is less
REPEAT_SECONDS: Final = 86_400.0  # between two warnings of the log
_MILLENNIUM: Final = datetime(2000, 1, 1, tzinfo=UTC)

Signature = tuple[tuple[int, int, int] | None, ...]


class Certificates:
    """One table of the settings, `[tls]` or `[cluster_tls]`."""

    def __init__(
        self, table: str, settings: Tls, log: Any, now: Callable[[], float], *, is_for_nodes: bool = False
    ) -> None:
        """`now`: seconds of the wall clock. Raises BadCertificate."""
        self.table = table
        self._settings = settings
        self._log = log
        self._now = now
        self._is_for_nodes = is_for_nodes
        self._seen = self._loaded = self._look_at_files()
        self._failed = ""  # why what is there now could not be loaded
        self._warned = -REPEAT_SECONDS
        self._load()

    def listening(self) -> ssl.SSLContext:
        """For the next one who connects."""
        return self._listening

    def dialling(self) -> ssl.SSLContext:
        """For the next one to connect to; only nodes do."""
        assert self._dialling is not None
        return self._dialling

    def _load(self) -> None:
        settings = self._settings
        made = listening(settings, is_for_nodes=self._is_for_nodes)
        self._dialling = dialling(settings) if self._is_for_nodes else None
        self._listening = made
        self._begins, self._ends = _life(Path(settings.certificate))

    def _look_at_files(self) -> Signature:
        return tuple(_signature(file) for _, file, _ in files(self._settings))

    def prepare(self, settings: Tls) -> Callable[[], None]:
        """Other files. Raises BadCertificate. Returns what has them in use from then on."""
        new = Certificates(self.table, settings, self._log, self._now, is_for_nodes=self._is_for_nodes)

        def commit() -> None:
            self.__dict__.update(new.__dict__)

        return commit

    def look(self) -> None:
        """Load what has changed and settled; say how near the end is."""
        found = self._look_at_files()
        has_settled, self._seen = found == self._seen, found
        if has_settled and found != self._loaded:
            self.reload()
        trouble = self._near_its_end()
        if trouble and self._now() - self._warned >= REPEAT_SECONDS:
            self._warned = self._now()
            self._log.warning("certificate_expires", table=self.table, expires=self.expires, reason=trouble)

    def reload(self) -> None:
        """Load the files now (SIGHUP); where they cannot be used, go on with what was loaded before."""
        self._loaded = self._look_at_files()
        try:
            self._load()
        except BadCertificate as error:
            self._failed = f"{self.table}.{error.setting}: {error.wrong}; what was loaded before is still in use"
            self._log.error("certificate_not_loaded", setting=f"{self.table}.{error.setting}", reason=error.wrong)
        else:
            self._failed = ""
            self._warned = -REPEAT_SECONDS
            self._log.info("certificate_loaded", table=self.table, expires=self.expires)

    @property
    def expires(self) -> str:
        """When, as RFC 3339 has it."""
        return self._ends.strftime("%Y-%m-%dT%H:%M:%SZ")

    def _near_its_end(self) -> str:
        left = self._ends.timestamp() - self._now()
        life = self._ends.timestamp() - self._begins.timestamp()
        if left <= 0:
            return f"{self.table}.certificate has expired"
        if left <= min(WARN_SECONDS, life / 3):
            return f"{self.table}.certificate expires in {int(left // 3_600)} hours"
        return ""

    def troubles(self) -> list[str]:
        """What makes a node's health degraded."""
        return [trouble for trouble in (self._failed, self._near_its_end()) if trouble]

    def report(self) -> dict[str, object]:
        """For health."""
        return {"expires": self.expires, "error": self._failed}


def _signature(file: str) -> tuple[int, int, int] | None:
    """What differs after a file was changed or replaced, also behind a link."""
    try:
        status = os.stat(file)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _life(file: Path) -> tuple[datetime, datetime]:
    """From when to when the first certificate in a file is good; always, where only OpenSSL can read it."""
    from cryptography import x509  # 40 ms of a start: who has no certificates does without

    try:
        first = x509.load_pem_x509_certificates(file.read_bytes())[0]
    except (OSError, ValueError):
        return _MILLENNIUM, datetime.max.replace(tzinfo=UTC)
    return first.not_valid_before_utc, first.not_valid_after_utc
