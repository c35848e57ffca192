"""Octets, threads, TLS and processes. Knows no protocol."""
