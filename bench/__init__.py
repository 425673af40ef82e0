"""Triode's benchmarks: one load generator, three servers, ratios taken inside one run.

Start: `python -m bench`; what the figures mean: bench/README.md.
"""
