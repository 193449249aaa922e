"""W3: recurrent layers."""
