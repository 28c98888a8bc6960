"""Captions held against references: n-gram scores, claims, changed or not."""
