"""Prompt augmentation: ask a model for clues about the images, keep them on disk, and add them to records."""
