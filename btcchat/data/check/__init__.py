"""What can be known of a mixture before a training run."""
