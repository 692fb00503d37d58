"""Judging a submission: reading it, comparing it with a reference, saying where and why they differ. NumPy alone.

dump.py, submission.py            an implementation's arrays: files, layouts, names
compare.py                        the verdict; report.py: the report
downstream.py, contradictions.py  what a wrong value can have reached; spikes that do not follow from u
guess.py, hypotheses.py           the likely cause
"""
