"""`gochat bench`."""
