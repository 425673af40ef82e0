"""Conformance by script: a scripted broker plays conversations with faults against any client.

The scenarios are data (protocol/scenarios); the client takes part through an adapter, a small program that reads
commands and writes reports, one JSON object a line (`lines`). What a client must never do, whatever the scenario,
stands in `rules`.
"""
