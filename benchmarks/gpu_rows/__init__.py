"""The rows of benchmarks/gpu.py, a file for each kind of measurement."""
