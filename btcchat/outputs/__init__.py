"""What a command writes: never over a file that is not ours, and never by two runs at once."""
