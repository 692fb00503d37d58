"""Checking an answer, saying what is wrong with it, and the points of submitted notebooks.

check_answer.py, diagnose.py          `check`; how an answer is run, compared and explained
form.py, relations.py                 what can be wrong with a result: its form, its values
answer_process.py, isolated.py        a student's code in a process of its own
submission.py, report.py              notebooks read without running them; the table of points
"""
