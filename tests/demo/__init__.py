"""The feeder of the demo: its figures from texts of /proc; that it feeds is seen in tests/browser."""
