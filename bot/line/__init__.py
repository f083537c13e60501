"""What `web` is made of: it answers Twilio, for calls that come in and for those of campaigns."""
