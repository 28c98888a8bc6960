"""The HTTP server: an engine with OpenAI's routes and a few of its own. It needs the extra `serve`."""
