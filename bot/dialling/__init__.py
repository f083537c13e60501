"""What `dialer` is made of: attempts that are due, asked for once, and watched to their end."""
