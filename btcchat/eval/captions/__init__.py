"""Captions compared with references: n-gram scores, claims, changed or not."""
