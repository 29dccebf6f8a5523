"""The peers of the benchmarks, in an environment of their own."""
