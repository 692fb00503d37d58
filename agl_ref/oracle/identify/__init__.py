"""Which conventions, or which known mutant, an implementation shows.

confirm.py                     identify and identify_case: the search, confirmed within the bounds
search.py, shared.py           the search, and a copy of the reference that computes no step twice
layouts.py                     the arrays under the reference's names and in its layout
distinguishing_cases.py        which golden cases tell two values of a convention apart
identification.py              what was found, in words and for programs
"""

from .confirm import identify, identify_case, with_cases
from .search import combinations, relevant_values, search, search_surrogates

__all__ = [
    "combinations",
    "identify",
    "identify_case",
    "relevant_values",
    "search",  # the function, which hides the module of this name
    "search_surrogates",
    "with_cases",
]
