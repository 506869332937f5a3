"""Environments: the contract, the registry, the built-in suite and its sandbox."""
