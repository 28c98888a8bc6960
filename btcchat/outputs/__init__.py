"""Protection of output files: never overwrite a file that btcchat did not write, or write one from two runs at once."""
