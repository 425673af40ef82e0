"""The command `triode`: serve, pub, sub.

Parses arguments, reads settings, prints. The surprising decision: nothing that `pub` and `sub` need imports the
server's dependencies, because the base install is the client and both commands belong to it.
"""
