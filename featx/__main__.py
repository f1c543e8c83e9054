"""`python -m featx`."""

from featx.cli import main

main(prog_name="featx")
