"""Compare short answers and classes with the correct ones."""
