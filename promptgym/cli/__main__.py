"""`python -m promptgym.cli`: the command line without an installed script."""

from promptgym.cli import main

if __name__ == "__main__":
    main()
