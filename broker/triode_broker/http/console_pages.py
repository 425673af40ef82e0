"""The console's files under `/console`: static, as they lie in `console/`, read once.

Plain functions like the other pages; knows no broker and no secret. The surprising decision: the files are open to
everybody who reaches the listener. They are the same for all and say nothing of a node; whatever the console shows
it asks for under `/v1`, with the secret that its visitor has typed in.
"""

from collections.abc import Mapping
from importlib.resources import files
from typing import Final

from triode_broker.http.pages import Route, client_script

PATH: Final = "/console"
_TYPES: Final = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


def console_routes() -> Mapping[str, Route]:
    """`/console`, its files below it, and the JavaScript client that it uses for its tail."""
    routes = {
        f"{PATH}/{file.name}": _page(file.name, file.read_bytes())
        for file in files("triode_broker.http").joinpath("console").iterdir()
        if file.name.rpartition(".")[2] in _TYPES
    }
    front = routes.pop(f"{PATH}/index.html")
    return {**routes, PATH: front, f"{PATH}/": front, "/triode.js": _page("triode.js", client_script())}


def _page(name: str, body: bytes) -> Route:
    content_type = _TYPES[name.rpartition(".")[2]]

    def page(target: str) -> tuple[int, str, bytes]:
        return 200, content_type, body

    return page
