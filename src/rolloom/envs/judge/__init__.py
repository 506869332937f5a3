"""Environments whose reward is another model's judgement, and the judge's own training."""
