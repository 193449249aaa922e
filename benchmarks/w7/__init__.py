"""W7: a step of Adam."""
