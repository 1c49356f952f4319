"""A package of another's: a kind of its own, lists of words that are condensed to the commonest ones."""
