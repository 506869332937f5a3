"""Families of stdin/stdout problems; see `core`."""

from rolloom.envs.code.families import graphs, optimum, parsing
from rolloom.envs.code.families.core import FAMILIES, Family

__all__ = ["FAMILIES", "Family", "graphs", "optimum", "parsing"]
