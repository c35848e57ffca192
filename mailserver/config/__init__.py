"""Settings: what may be set (schema), and how a TOML file becomes settings (load)."""
