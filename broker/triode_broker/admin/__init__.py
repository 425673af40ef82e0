"""Administration of one node, on its own machine: a Unix socket in the data directory, and the calls it takes.

Whoever may read the directory may administer the node; nobody else can reach it. Knows the core, not the edge.
"""
