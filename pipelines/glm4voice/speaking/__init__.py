"""From speech tokens to sound."""
