"""asbuilt: run and operate a complete production deployment architecture from one file."""

__version__ = "0.1.0"
