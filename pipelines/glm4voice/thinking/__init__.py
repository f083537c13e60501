"""The language model and the engines that run it."""
