"""How fast it is, measured beside what Postgres itself can do and beside peers: `python -m benchmarks`."""
