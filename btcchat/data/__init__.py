"""Images and video in, records, mixtures, batches, synthetic scenes."""
