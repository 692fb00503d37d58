"""The golden cases: what each is and why, how its values are made, the stored files, their export.

case.py, registry.py        one case before it is computed; all of them
neuron.py ... networks.py   their definitions; draw.py: the numbers in them
generate.py, refusals.py    computing them, and refusing what proves nothing
vectors.py, export.py       the stored files, with NumPy alone; other formats
"""
