"""`python -m vitbench.cli`."""

from vitbench.cli import main

if __name__ == "__main__":
    main()
