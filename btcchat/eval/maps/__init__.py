"""Draw change maps and compare them with masks."""
