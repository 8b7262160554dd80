"""The command line: words in, data on stdout, talk on stderr."""
