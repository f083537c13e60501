"""What the chain costs, in numbers, at any size."""
