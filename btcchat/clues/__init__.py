"""Prompt augmentation: clues about the images are asked of a model, kept on disk, and put into records."""
