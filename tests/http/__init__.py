"""The pages as plain functions; that they are served is seen in tests/edge and tests/browser."""
