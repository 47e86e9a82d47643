"""Brings models of other formats into the folder layout that swbench reads."""
