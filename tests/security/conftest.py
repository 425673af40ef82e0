"""Rigs of the edge, for attacks that need no process."""

from tests.edge.conftest import make_rig, rig

__all__ = ["make_rig", "rig"]
