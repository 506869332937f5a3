"""Questions of fact and reasoning over choices."""
