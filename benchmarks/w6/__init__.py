"""W6: many small networks trained at once."""
