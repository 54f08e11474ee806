"""The space file: read, checked, hashed, explained."""
