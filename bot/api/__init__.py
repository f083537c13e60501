"""What programs do with campaigns: the powers of the command, over HTTP and behind a token."""
