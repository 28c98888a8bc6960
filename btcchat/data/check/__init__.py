"""Check a mixture before a training run."""
