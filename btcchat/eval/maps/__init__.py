"""Change maps, drawn and held against masks."""
