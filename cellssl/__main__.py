"""__main__: `python -m cellssl` is `cellssl`."""

from cellssl.cli import main

if __name__ == "__main__":
    main()
