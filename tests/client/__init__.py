"""The Python client: its core without an event loop, its face against scripted and real brokers."""
