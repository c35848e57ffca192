"""What is answered: values become octets. Pure."""
