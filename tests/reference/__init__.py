"""What swbench computes, once more in plain NumPy: float64, no cleverness, written from the
specification alone.

The C program is tested against this package (tests/methods), and this package against worked
examples (test_reference.py). Letters: L layers, n tokens, H heads, Hkv KV heads, d head size, B
block size, b = ceil(n / B) blocks, U head units.
"""
