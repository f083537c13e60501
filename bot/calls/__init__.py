"""Records of calls: who spoke with whom, what was said, how it ended."""
