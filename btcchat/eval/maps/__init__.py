"""Change maps, drawn and compared with masks."""
