"""Settings, logging and prompt files, read once by a process and passed down as plain values."""
