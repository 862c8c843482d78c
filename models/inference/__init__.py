"""The engine of demo.py: from person crops to bodies and files."""
