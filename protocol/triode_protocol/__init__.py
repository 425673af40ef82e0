"""The wire protocol of Triode, sans I/O: packet types, codec, topic grammar, positions, error registry.

Pure: no sockets, no clock, no randomness, no files. SPEC.md is the normative text; this package is what the broker
and the Python client both run on.
"""
