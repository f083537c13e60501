"""What `python -m bot.bench dialer` runs: a dialer, a phone network, and what is around them."""
