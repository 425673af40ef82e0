"""Conformance by script: the scenarios themselves, the runner, and all our clients against them."""
