"""Programs for those who develop and try the server."""
