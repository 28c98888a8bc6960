"""The HTTP server: an engine behind OpenAI's routes and a few of our own. It needs the extra `serve`."""
