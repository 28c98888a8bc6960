"""A finished evaluation as one HTML page."""
