"""What the broker serves over plain HTTP: routes as plain functions, handed to the edge by the server."""
