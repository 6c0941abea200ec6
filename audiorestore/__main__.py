"""``python -m audiorestore``: the same as the command ``audiorestore``."""

from audiorestore.cli import main

if __name__ == "__main__":
    main()
