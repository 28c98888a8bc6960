"""The parts of the decoding loop in generation.py: options, sampling, the text of an answer, beam search."""
