"""Pipecat: one pipeline per call."""
