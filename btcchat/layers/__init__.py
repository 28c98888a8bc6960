"""Small neural network parts that several folders use."""
