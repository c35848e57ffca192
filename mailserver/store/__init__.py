"""The store: mail on disk, and what is known about it."""
