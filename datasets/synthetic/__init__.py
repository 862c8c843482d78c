"""Rendered people: body, pose, clothes, light and places drawn from a seed, with exact labels."""
