"""What is shown while a bench runs."""
