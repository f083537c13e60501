"""A phone network made of code: it behaves towards a bot as Twilio does."""
