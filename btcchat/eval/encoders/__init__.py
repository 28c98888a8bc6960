"""Train change encoders alike and compare them: `compare.py` runs it all, the other files are its steps."""
