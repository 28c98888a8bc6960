"""An evaluation from a model and data sets to a run folder with its scores."""
