"""The documentation: its pages, and `python -m docs`, which builds a site from them."""
