"""W4: attention."""
