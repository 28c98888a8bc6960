"""Comparisons with the golden sets, a function per kind of set; benchmarks/golden.py runs them."""
