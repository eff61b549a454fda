"""The documentation, and `python -m docs`, which builds it as a site."""
