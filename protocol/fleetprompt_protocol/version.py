"""The version of the distribution, importable without reading package metadata."""

__version__ = "0.1.0"
