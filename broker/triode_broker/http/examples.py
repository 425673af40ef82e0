"""Examples of what is asked and answered over HTTP, for the OpenAPI document; tests check them by the records."""

from collections.abc import Mapping
from typing import Any, Final

_CONNECTION: Final = "c-9f86d081884c7d659a2feaa0c55ad015"
_REVOKED: Final = {
    "kind": "user",
    "value": "ada",
    "tenant": "",
    "at_ms": 1732281000123,
    "until_ms": 1732367400123,
    "also_new": False,
}

#: By method and path: `path`, `query`, `body`, `answer`.
EXAMPLES: Final[Mapping[tuple[str, str], Mapping[str, Any]]] = {
    ("POST", "/v1/publish"): {"body": {"topic": "rooms/42/chat", "data": {"text": "hello"}, "message_id": "m-1"}},
    ("GET", "/v1/history"): {"query": {"topic": "rooms/42/chat"}},
    ("GET", "/v1/presence"): {"query": {"topic": "rooms/42"}},
    ("GET", "/v1/connections"): {
        "query": {"user": "ada"},
        "answer": {
            "connections": [
                {
                    "connection": _CONNECTION,
                    "node": "n1",
                    "address": "192.0.2.7",
                    "since_ms": 1732281000123,
                    "user": "ada",
                    "tenant": "",
                    "method": "token",
                    "token": "",
                    "key": "",
                    "issued_ms": 1732280990000,
                    "expires_ms": 1732284590000,
                    "subscriptions": 2,
                    "refused": 0,
                }
            ],
            "more": False,
            "unanswered": [],
        },
    },
    ("DELETE", "/v1/connections/{id}"): {"path": {"id": _CONNECTION}, "answer": {"closed": 1, "unanswered": []}},
    ("POST", "/v1/kick"): {"body": {"user": "ada"}, "answer": {"closed": 2, "unanswered": []}},
    ("GET", "/v1/subscriptions"): {"query": {"topic": "rooms/42/chat"}},
    ("GET", "/v1/revocations"): {"answer": {"revocations": [_REVOKED], "kept": "disk"}},
    ("POST", "/v1/revocations"): {
        "body": {"user": "ada", "seconds": 86400},
        "answer": {"revoked": _REVOKED, "closed": 2, "kept": {"n1": "disk"}, "unanswered": []},
    },
    ("DELETE", "/v1/revocations"): {
        "query": {"user": "ada"},
        "answer": {"unrevoked": _REVOKED, "kept": {"n1": "disk"}, "unanswered": []},
    },
    ("GET", "/v1/durable/{name}"): {"path": {"name": "billing"}},
    ("DELETE", "/v1/durable/{name}"): {
        "path": {"name": "billing"},
        "answer": {"name": "billing", "tenant": "", "dead_letters": 0, "home": "n1"},
    },
    ("POST", "/v1/durable/{name}/rewind"): {
        "path": {"name": "billing"},
        "body": {"to": {"since": 1732281000000}},
        "answer": {"name": "billing", "tenant": "", "after": {"d0-7qk4": 41}, "home": "n1"},
    },
    ("GET", "/v1/dead-letters/{name}"): {"path": {"name": "billing"}},
    ("DELETE", "/v1/dead-letters/{name}"): {
        "path": {"name": "billing"},
        "query": {"positions": [17]},
        "answer": {"count": 1, "refused": [], "stopped": "", "home": "n1"},
    },
    ("POST", "/v1/dead-letters/{name}/retry"): {
        "path": {"name": "billing"},
        "body": {"positions": [17]},
        "answer": {"count": 1, "refused": [], "stopped": "", "home": "n1"},
    },
    ("GET", "/v1/topics"): {"query": {"prefix": "rooms/"}},
    ("GET", "/v1/topics/route"): {"query": {"topic": "rooms/42/chat"}},
    ("POST", "/v1/drain"): {"body": {"seconds": 30}, "answer": {"connections": 1200, "seconds": 30.0}},
    ("POST", "/v1/reload"): {"body": {}},
    ("PUT", "/v1/log-level"): {"body": {"level": "debug", "seconds": 300}},
    ("POST", "/v1/tail"): {"body": {"user": "ada"}},
    ("GET", "/v1/tail/{tap}"): {"path": {"tap": "t-3f9c"}, "query": {"wait_ms": 1000}},
    ("DELETE", "/v1/tail/{tap}"): {"path": {"tap": "t-3f9c"}},
    ("POST", "/v1/console/token"): {
        "body": {"tenant": ""},
        "answer": {"token": "mK1v…", "expires_in_ms": 60000},
    },
}
