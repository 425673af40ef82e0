"""Signatures of webhooks' requests. Pure.

The time stands in what is signed: a request that somebody has recorded cannot be sent again later. The surprising
decision: two signatures while a secret is being replaced, the new one's first. The receiver takes either.
"""

import hmac
from collections.abc import Sequence


def sign(secrets: Sequence[bytes], at_seconds: int, body: bytes) -> str:
    """The header's value: `t=…,v1=…`, a `v1` for each secret. `at_seconds`: since 1970."""
    signed = b"%d.%s" % (at_seconds, body)
    signatures = [f"v1={hmac.digest(secret, signed, 'sha256').hex()}" for secret in secrets]
    return ",".join([f"t={at_seconds}", *signatures])
