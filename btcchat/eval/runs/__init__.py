"""Evaluate a model on data sets and write a run folder with the scores."""
