"""Serves pages that use the JavaScript client, under a content security policy that allows only what it needs.

Knows files and how they are bundled, nothing of brokers. The surprising decision: no page has a line of script of
its own. `/x.html` is made up and loads `/x.js`, so that the policy can forbid scripts in pages as well as `eval`.
"""

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

from tests.browser.built import CLIENT

PAGES: Final = Path(__file__).with_name("pages")
POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "worker-src 'self'",
        "connect-src 'self' ws://127.0.0.1:* http://127.0.0.1:*",
        "style-src 'self'",
        "img-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
    )
)
_PAGE: Final = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{name}</title>
{style}<div id="root"></div><script {kind}src="/{name}.js"></script></html>
"""


def bundle(entry: Path, folder: Path, *, development: bool = False) -> None:
    """Make `entry` into one script in `folder`, with the built client that is in `folder / "dist"`."""
    environment = "development" if development else "production"
    dist = folder / "dist"
    packages = CLIENT / "node_modules"
    command = [
        str(packages / ".bin" / "esbuild"),
        str(entry),
        "--bundle",
        "--format=iife",
        "--jsx=automatic",
        "--log-level=warning",
        f"--outfile={folder / entry.with_suffix('.js').name}",
        f'--define:process.env.NODE_ENV="{environment}"',
        f"--alias:triode={dist / 'index.js'}",
        f"--alias:triode/react={dist / 'react.js'}",
        f"--alias:react={packages / 'react'}",
        f"--alias:react-dom={packages / 'react-dom'}",
    ]
    subprocess.run(command, check=True)


class _Answer(SimpleHTTPRequestHandler):
    """Files of some folders, and a page for each script."""

    folders: tuple[Path, ...] = ()

    def translate_path(self, path: str) -> str:
        """The first folder that has it."""
        name = path.partition("?")[0].lstrip("/")
        return next((str(folder / name) for folder in self.folders if (folder / name).is_file()), "")

    def do_GET(self) -> None:
        name, dot, kind = self.path.partition("?")[0].lstrip("/").rpartition(".")
        script = self.translate_path(f"/{name}.js")
        if not dot or kind != "html" or not script:
            super().do_GET()
            return
        is_module = "\nimport " in "\n" + Path(script).read_text()
        style = f'<link rel="stylesheet" href="/{name}.css">' if self.translate_path(f"/{name}.css") else ""
        text = _PAGE.format(name=name, kind='type="module" ' if is_module else "", style=style).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def end_headers(self) -> None:
        """Every answer has the policy: a worker's script brings its own."""
        self.send_header("Content-Security-Policy", POLICY)
        self.send_header("Cache-Control", "no-store")
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Not to stderr."""


@contextmanager
def serve_site(*folders: Path) -> Iterator[str]:
    """Its address, without a slash at the end, until the end of the block."""
    answer = type("Answer", (_Answer,), {"folders": folders})
    with ThreadingHTTPServer(("127.0.0.1", 0), answer) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
