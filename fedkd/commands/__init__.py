"""The sub-commands of ``fedkd``, one module each, imported when they are called."""
