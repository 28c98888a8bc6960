"""Limits on what comes from outside: which paths are read and written, how much of a file, and what it may contain."""
