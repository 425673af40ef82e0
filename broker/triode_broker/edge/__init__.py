"""The edge: everything that touches client sockets. Bytes come in here, become text for an application, and leave.

Knows sockets, HTTP heads and WebSocket; of our packets only `bye`. `reactor.Edge` is the way in.
"""
