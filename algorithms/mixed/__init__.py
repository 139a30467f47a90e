"""Methods for models that differ: what crosses are answers, features or a shared part."""
