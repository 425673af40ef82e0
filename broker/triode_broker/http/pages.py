"""The pages of a node: the demo at `/`, the JavaScript client at `/triode.js` (and `/triode-sse.js`, which that
loads where no WebSocket opens), health at `/healthz`, `/readyz` and `/startupz`.

Plain functions from a request target to status, content type and body; knows no socket and no broker, what health
and readiness say comes from outside. The surprising decision: the demo's Content-Security-Policy stands in the
page itself and names its script by its hash, computed here when the page is read. So a message that somehow became
markup could still run nothing, and nobody has to keep a hash current by hand.
"""

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from typing import Final

import msgspec

#: request target, query included → status, content type, body
Route = Callable[[str], tuple[int, str, bytes]]

#: What `status` says when the node had better be started again. One that drains is healthy, and not ready.
FAILING: Final = frozenset({"failed"})

_SCRIPT_BEGIN: Final = '<script type="module">'
_SCRIPT_END: Final = "</script>"
_SCRIPT_HASH: Final = "@SCRIPT@"  # in the page's policy


def pages(
    health: Callable[[], Mapping[str, object]],
    unready: Callable[[], Sequence[str]],
    has_started: Callable[[], bool] = lambda: True,
) -> Mapping[str, Route]:
    """The routes by path; what they are given is asked at every request.

    `health`: its `status` is "ok" or says what is not. `unready`: why clients had better go elsewhere; () = ready.
    `has_started`: whether all that serves clients was ever up.
    """
    page = demo_page().encode()
    script, fallback = client_script(), fallback_script()

    def demo(target: str) -> tuple[int, str, bytes]:
        return 200, "text/html; charset=utf-8", page

    def client(target: str) -> tuple[int, str, bytes]:
        return 200, "text/javascript; charset=utf-8", script

    def around(target: str) -> tuple[int, str, bytes]:
        return 200, "text/javascript; charset=utf-8", fallback

    def healthz(target: str) -> tuple[int, str, bytes]:
        report = health()
        return _json(503 if report["status"] in FAILING else 200, report)

    def readyz(target: str) -> tuple[int, str, bytes]:
        reasons = list(unready())
        return _json(503 if reasons else 200, {"ready": not reasons, "reasons": reasons})

    def startupz(target: str) -> tuple[int, str, bytes]:
        return _json(200 if has_started() else 503, {"started": has_started()})

    scripts = {"/triode.js": client, "/triode-sse.js": around}
    return {"/": demo, **scripts, "/healthz": healthz, "/readyz": readyz, "/startupz": startupz}


def _json(status: int, report: Mapping[str, object]) -> tuple[int, str, bytes]:
    return status, "application/json", msgspec.json.encode(report) + b"\n"


def client_script() -> bytes:
    """The JavaScript client for a script tag, with the offline queue: `make generate` takes it from clients/js."""
    return files("triode_broker.http").joinpath("triode.js").read_bytes()


def fallback_script() -> bytes:
    """What the client loads where no WebSocket opens: a module, `make generate` takes it from clients/js, too."""
    return files("triode_broker.http").joinpath("triode-sse.js").read_bytes()


def demo_page() -> str:
    """The demo page, allowed to run its own script and to connect to where it came from, nothing else."""
    page = files("triode_broker.http").joinpath("demo.html").read_text(encoding="utf-8")
    digest = hashlib.sha256(demo_script(page).encode()).digest()
    return page.replace(_SCRIPT_HASH, "sha256-" + base64.b64encode(digest).decode(), 1)


def demo_script(page: str) -> str:
    """The one script of the page, as browsers see it."""
    return page.partition(_SCRIPT_BEGIN)[2].partition(_SCRIPT_END)[0]
