"""The golden sets, a function each; benchmarks/golden.py runs them."""
