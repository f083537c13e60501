"""Simulated calls: what a caller does, what is expected, and the report of how it went."""
