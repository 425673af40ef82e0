"""`--workers N`: several processes of one host on one port, each a node, and the parent that keeps them running.

Knows processes, pipes and ports, and nothing of what a worker does.
"""
