"""Dialogues: an agent with tools and a policy serves a user who is played by rules or by a model."""
