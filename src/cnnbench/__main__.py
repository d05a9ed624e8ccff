"""`python -m cnnbench` is the same as the console script `cnnbench`."""

from cnnbench.cli import main

if __name__ == "__main__":
    main()
