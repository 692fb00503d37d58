"""Judging a submission: reading it, comparing it with a reference, saying where and why they differ. NumPy alone.

dump.py, submission.py            an implementation's arrays: files, layouts, names
compare.py                        the verdict; report.py: the report
downstream.py, contradictions.py  what a wrong value can have reached; spikes that do not follow from u
guess.py, hypotheses.py           the likely cause
page.py, explain.py               the report, and one neuron's numbers, as HTML pages (markup.py, page.css)
neuron.py                         one neuron's equations, filled in
"""
