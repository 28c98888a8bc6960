"""What the decoding loop of generation.py is made of: options, sampling, text of an answer, beam search."""
