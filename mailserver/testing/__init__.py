"""The embeddable server and the pytest plugin."""
