"""A campaign on the phone network of the emulator: its people, and what the network saw of them."""
