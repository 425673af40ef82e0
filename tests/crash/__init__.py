"""Crash proof: a real broker process is killed again and again, and what clients saw of it is judged."""
