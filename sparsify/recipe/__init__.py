"""Recipes: frozen models of one experiment, and how a YAML file becomes one or is refused with every fault located."""
