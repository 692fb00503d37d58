"""Wrong implementations, each a copy of `agl_ref.reference` with a rule changed, and the test that golden cases see them.

variants.py, summation.py    copies of the reference: other lines, other functions, another order of its sums
table.py, functions.py       the mutants, and those that are more than a changed line
registry.py, selftest.py     which golden cases kill each; `agl-ref selftest`
"""
