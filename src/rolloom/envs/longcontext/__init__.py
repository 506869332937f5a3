"""Recall and multi-hop questions over prompts of up to a million tokens."""
