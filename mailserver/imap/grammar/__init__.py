"""Whole commands to dataclasses. Pure: no socket, no store, no clock."""
