"""Where sound flows: three rooms with one heavy library each, and what they share."""
