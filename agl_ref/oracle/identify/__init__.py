"""Which conventions, or which known bug, an implementation shows."""

from .search import combinations, identify, identify_case, relevant_values, search, search_surrogates, with_cases

__all__ = [
    "combinations",
    "identify",
    "identify_case",
    "relevant_values",
    "search",  # the function, which hides the module of this name
    "search_surrogates",
    "with_cases",
]
