"""Steps that specifications and programs are made of; see `core`."""

from rolloom.envs.code.routines import algorithms, grids, lists, numbers, tables, texts
from rolloom.envs.code.routines.core import ROUTINES, TYPE_WORDS, Routine, source_of

__all__ = [
    "ROUTINES",
    "TYPE_WORDS",
    "Routine",
    "algorithms",
    "grids",
    "lists",
    "numbers",
    "source_of",
    "tables",
    "texts",
]
