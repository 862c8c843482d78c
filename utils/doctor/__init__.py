"""What is installed, which files are there, and whether the demo works: `python -m utils.doctor`."""
