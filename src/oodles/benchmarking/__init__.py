"""Benchmarks: recipes × suites × seeds, trained side by side and compared."""
