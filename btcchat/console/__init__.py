"""How a command deals with the terminal: messages, progress, signals, child processes and exit codes."""
