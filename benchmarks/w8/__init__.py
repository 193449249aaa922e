"""W8: from the start of a process to a trained model."""
