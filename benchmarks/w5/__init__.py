"""W5: the exact importance of every node."""
