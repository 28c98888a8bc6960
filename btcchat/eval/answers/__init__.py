"""Short answers and classes compared with the true ones."""
