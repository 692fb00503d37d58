"""The benchmarks hold no doctests, and their twin needs PyTorch."""

collect_ignore = ["__main__.py", "torch_twin.py", "worker.py"]
