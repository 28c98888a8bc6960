"""Ways to use a model without writing Python: the chat, captions of many pairs, and the server."""
