"""The engine of train.py: steps, stages, optimisation, validation, checkpoints, logs."""
