"""Where an accepted message goes: router, targets, local delivery."""
