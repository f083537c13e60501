"""How the tables came about: one module per step, forwards and backwards."""
