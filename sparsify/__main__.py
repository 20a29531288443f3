"""`python -m sparsify` is the console script."""

from sparsify.cli.main import main

if __name__ == "__main__":
    main()
