"""Tests of the benchmarks' load generator: figures from a counter that cannot see a loss are worthless."""
