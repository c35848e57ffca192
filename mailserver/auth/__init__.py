"""Who are you: users, passwords, SASL, throttling. Knows no protocol."""
