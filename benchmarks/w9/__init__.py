"""W9: how soon the library is there."""
