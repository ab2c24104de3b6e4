"""redsched inside of other frameworks: one module each, which needs the extra of its name."""
