"""Short answers and classes held against the true ones."""
