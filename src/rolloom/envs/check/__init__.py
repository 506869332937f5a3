"""The environment card: what an environment proves of itself before it trains anything. See `check`."""

from rolloom.envs.check.card import Card, Finding
from rolloom.envs.check.run import check

__all__ = ["Card", "Finding", "check"]
