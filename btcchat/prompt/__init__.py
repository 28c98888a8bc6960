"""From the turns of a chat to token ids and labels."""
