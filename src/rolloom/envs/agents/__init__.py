"""Multi-turn agents with state that lasts for the episode."""
