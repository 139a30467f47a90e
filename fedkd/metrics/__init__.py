"""What is measured, and which columns of the results it fills: each said once."""
