"""One static page about everything below a folder."""
