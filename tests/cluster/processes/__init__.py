"""Clusters of real processes: faults, barriers, durable shards."""
