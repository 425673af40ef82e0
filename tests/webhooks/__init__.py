"""Tests of webhooks: real brokers, and endpoints that behave and misbehave."""
