"""Benchmarks: chainrule beside hand-written NumPy, PyTorch and JAX, in one run. `make bench`."""
