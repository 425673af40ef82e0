"""Rigs of the edge, for attacks that need no process."""

from tests.edge.conftest import make_rig, rig
from tests.spec.conftest import start_broker

__all__ = ["make_rig", "rig", "start_broker"]
