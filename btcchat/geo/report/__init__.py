"""A finished run of scenes as one HTML page."""
