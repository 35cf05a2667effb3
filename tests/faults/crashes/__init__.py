"""Real processes that crash between two of their effects."""
