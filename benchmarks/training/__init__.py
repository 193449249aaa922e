"""Training loops as users of each library write them, shared by W1 and W2."""
