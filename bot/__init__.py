"""What runs: one module per process or command. Nobody imports this package."""
