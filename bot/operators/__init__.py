"""What an operator does with campaigns and sees of them, by command or over HTTP."""
