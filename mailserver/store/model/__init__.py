"""Values of the store that protocols may hold: numbers, flags, messages, search criteria. Pure."""
