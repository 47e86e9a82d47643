"""The figures of a result folder, as ../plot.py draws them."""
