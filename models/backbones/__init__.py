"""Backbones: HRNet, ResNet and MoveNet's trunk."""
