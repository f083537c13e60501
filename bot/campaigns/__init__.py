"""Outbound campaigns: who may be rung, and when. Pure decisions, given the time."""
