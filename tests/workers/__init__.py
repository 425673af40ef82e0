"""Tests of the workers of one host."""
