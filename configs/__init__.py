"""YAML groups and presets, packaged so that `bench` finds them from anywhere."""
