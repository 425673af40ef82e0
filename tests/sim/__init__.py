"""The simulator: real nodes and clients in one trio run, over a network, a clock and disks that a seed decides."""
