"""Rollouts, training and evaluation: the only room that knows Ray."""
