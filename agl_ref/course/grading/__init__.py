"""Checking an answer, saying what is wrong with it, and the points of submitted notebooks."""
