"""Ways to use a model without writing Python: the chat, and many pairs at once."""
