"""What only speed needs; the plain path is complete without it.

winograd.py, spike_driven.py   convolutions with fewer multiplications, and of the spikes alone
tdbn_lif.py                    tdBN and LIF in one pass over memory
packing.py, recompute.py       inputs in bytes; what of a pass is kept, and what is computed again
"""
