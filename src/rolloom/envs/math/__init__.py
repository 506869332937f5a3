"""Mathematics with answers a program can check exactly."""
