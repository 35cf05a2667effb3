"""AWS that fails, between real processes and the emulators."""
