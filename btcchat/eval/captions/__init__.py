"""Compare captions with references: n-gram scores, claims, changed or not."""
