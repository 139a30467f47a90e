"""Prepared data sets: written once, checked, and mapped into memory."""
