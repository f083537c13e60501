"""Calls that the line places: the dialer's work, and what Twilio asks and tells about them."""
