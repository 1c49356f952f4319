"""Tables with a sensitive attribute, condensed into fewer and fairer rows."""
