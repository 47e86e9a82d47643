"""Models, texts and datasets in the formats that swbench reads (../README.md)."""
