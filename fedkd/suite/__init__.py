"""From a YAML file to the cells of its grid."""
