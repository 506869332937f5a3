"""Rewards: correctness, token efficiency within a group, advantages, and the statistics of a comparison."""
