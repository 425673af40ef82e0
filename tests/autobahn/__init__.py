"""Runs Autobahn's WebSocket conformance cases against an echo server: `make autobahn`.

Apart from its own unit tests it is not part of `make test`: the suite needs CPython 2.7.
"""
