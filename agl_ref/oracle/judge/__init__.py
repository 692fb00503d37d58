"""Judging a submission: reading it, comparing it with a reference, saying where and why they differ."""
