"""`python -m chainrule` is the command line."""

from .cli import main

main()
