"""One file a kind of layer: plain functions, and the frozen descriptions made of them."""
