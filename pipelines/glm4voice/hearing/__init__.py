"""From the caller's sound to speech tokens."""
