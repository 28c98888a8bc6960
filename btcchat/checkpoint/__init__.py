"""Checkpoint folders: config, weights, adapters; loading and saving them in our layout and in published ones."""
