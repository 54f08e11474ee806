"""Benchmarks for a GPU."""
