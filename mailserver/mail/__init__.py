"""The message as a format (RFC 5322, MIME): pure values, no disk, no protocol."""
