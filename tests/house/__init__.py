"""The house rules as tests: layers, style, lint, types, generated files, coverage of what must be whole."""
