"""Everything between nodes: links, who owns which shard, and what peers ask of each other.

Knows the core and the protocol, nothing of client sockets, log engines or HTTP. Synchronous but for its rim
(`link`, `dialling`, `listening`), so that a whole cluster runs inside one deterministic simulation.
"""
