"""The golden cases: what each is and why, how its values are made, the stored files, their export."""

from .registry import Case, definition, definitions, notes

__all__ = ["Case", "definition", "definitions", "notes"]
