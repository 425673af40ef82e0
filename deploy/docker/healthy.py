"""Whether the node in this container answers 200: `healthy.py /healthz` or `/readyz`. Exit code 0 or 1.

Knows the environment of the node and nothing else, and needs nothing that is not Python's own. The surprising
decision: a certificate is not checked. It is this machine's own port, and who may be asked is not in question.
"""

import http.client
import os
import ssl
import sys

TIMEOUT_SECONDS = 2.5


def main() -> int:
    """Ask, and write what was said where it is not good."""
    path = sys.argv[1] if len(sys.argv) > 1 else "/healthz"
    port = int(os.environ.get("TRIODE_LISTEN", ":7400").rpartition(":")[2])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)
    if os.environ.get("TRIODE_TLS_CERTIFICATE"):
        context = ssl._create_unverified_context()
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS, context=context)
    try:
        connection.request("GET", path, headers={"Host": f"127.0.0.1:{port}"})
        answer = connection.getresponse()
        body = answer.read(4_096).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        sys.stdout.write(f"{path}: {error}\n")
        return 1
    if answer.status != 200:
        sys.stdout.write(f"{path}: {answer.status} {body}\n")
    return int(answer.status != 200)


if __name__ == "__main__":
    sys.exit(main())
