"""The SQLite index: a cache of what the files say."""
