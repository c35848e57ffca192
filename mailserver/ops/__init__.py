"""Running it: command line, logs, metrics, HTTP, doctor."""
