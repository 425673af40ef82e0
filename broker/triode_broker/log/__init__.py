"""Logs: the engines behind `core.interfaces.Log`. One object is one life of one sequence."""
