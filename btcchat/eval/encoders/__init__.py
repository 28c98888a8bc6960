"""Change encoders trained alike and compared: `compare.py` runs it all, the other files are its steps."""
