"""`python -m attar` is `attar`."""

from attar.cli import main

main()
