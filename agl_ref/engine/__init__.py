"""The method of METHOD.md, fast: one file a layer, and the blocks, networks, models and optimisers made of them.

fast/ holds what only speed needs.
"""
